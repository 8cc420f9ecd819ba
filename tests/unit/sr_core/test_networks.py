"""Networks: they start at bicubic, can learn, and see what they are said to see."""

import numpy as np
import pytest
import torch

from sr_core.losses import data_loss, discriminator_loss, generator_loss, ms_ssim_of
from sr_core.networks import Discriminator, UNet


@pytest.mark.parametrize("images", [0, 2])
def test_an_untrained_network_returns_the_slab_it_was_given_exactly(images):
    torch.manual_seed(1)
    stack = torch.rand(2, 12, 16, 24)
    anatomy = torch.rand(2, 12, 16, 24) if images else None
    network = UNet((4, 8, 8), planes=4, context=4, images=images)
    assert torch.equal(network(stack, torch.tensor([0.0, 0.1]), anatomy), stack[:, 4:8])


def test_one_plane_without_context_is_the_paper_s_network():
    assert UNet((4, 8), planes=1, context=0)(torch.rand(1, 1, 8, 8), torch.zeros(1)).shape == (1, 1, 8, 8)


def test_images_are_asked_for_and_not_taken_unasked():
    stack, sigma = torch.rand(1, 12, 8, 8), torch.zeros(1)
    with pytest.raises(ValueError, match="takes 2 anatomical images"):
        UNet((4, 8), images=2)(stack, sigma)
    with pytest.raises(ValueError, match="takes 0 anatomical images"):
        UNet((4, 8))(stack, sigma, torch.rand(1, 12, 8, 8))


def test_a_network_without_a_second_level_or_a_plane_is_refused():
    with pytest.raises(ValueError, match="two levels"):
        UNet((4,))
    with pytest.raises(ValueError, match="a plane or more"):
        UNet((4, 8), planes=0)


def test_a_tiny_network_overfits_one_patch():
    torch.manual_seed(0)
    truth = torch.nn.functional.interpolate(torch.rand(1, 1, 8, 8), scale_factor=4)
    blurred = torch.nn.functional.avg_pool2d(truth, 5, stride=1, padding=2)
    net, sigma, inside = UNet((8, 16), 1, 0), torch.zeros(1), torch.ones_like(truth)
    adam = torch.optim.Adam(net.parameters(), 3e-3)
    first = data_loss(net(blurred, sigma), truth, inside)
    for _ in range(250):
        adam.zero_grad()
        loss = data_loss(net(blurred, sigma), truth, inside)
        loss.backward()
        adam.step()
    assert float(loss.detach()) < 0.05 * float(first.detach())


def test_what_is_said_outside_the_brain_costs_nothing():
    truth, inside = torch.rand(1, 4, 16, 16), torch.zeros(1, 4, 16, 16)
    inside[..., :8] = 1
    wrong_outside = torch.where(inside > 0, truth, truth + 5)
    assert float(data_loss(wrong_outside, truth, inside)) == 0
    assert float(data_loss(truth + 5, truth, inside)) == pytest.approx(25 / 2)


def test_the_discriminator_is_the_paper_s():
    """Eight 3 × 3 convolutions, 64 to 512 kernels, the image halved as they double; two dense layers."""
    torch.manual_seed(0)
    judge = Discriminator(32)
    convolutions = [m for m in judge.features if isinstance(m, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert {c.kernel_size for c in convolutions} == {(3, 3)}
    assert sum(isinstance(m, torch.nn.Linear) for m in judge.decide) == 2
    assert judge(torch.rand(3, 1, 32, 32)).shape == (3,)
    with pytest.raises(ValueError, match="multiple of 16"):
        Discriminator(40)


def test_a_discriminator_learns_to_tell_sharp_from_blurred():
    torch.manual_seed(0)
    judge = Discriminator(16, base=4, dense=16)
    adam = torch.optim.Adam(judge.parameters(), 3e-3)
    losses = []
    for _ in range(120):
        sharp = (torch.rand(16, 1, 16, 16) > 0.5).float()
        blurred = torch.nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1)
        loss = discriminator_loss(judge(sharp), judge(blurred))
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(np.log(2), abs=0.05)  # it could not tell
    assert losses[-1] < 0.2
    judge.requires_grad_(False)
    assert float(generator_loss(judge(sharp))) < float(generator_loss(judge(blurred)))


def test_the_adversarial_loss_pulls_even_where_the_discriminator_is_sure():
    """Non-saturating: the gradient does not vanish for a generated plane that is seen through."""
    logits = torch.tensor([-20.0], requires_grad=True)
    generator_loss(logits).backward()
    assert float(logits.grad) == pytest.approx(-1.0, abs=1e-6)


def test_ms_ssim_is_one_for_equals_and_agrees_with_the_evaluation_s():
    from sr_core.evaluate.metrics import ms_ssim

    rng = np.random.default_rng(0)
    truth = rng.random((3, 64, 64), dtype=np.float32)
    noisy = truth + 0.1 * rng.standard_normal(truth.shape, dtype=np.float32)
    ours = float(ms_ssim_of(torch.from_numpy(noisy)[None], torch.from_numpy(truth)[None]))
    theirs = ms_ssim(noisy, truth, np.ones(truth.shape, bool), 1.0)
    assert ours == pytest.approx(theirs, abs=0.02)  # theirs counts the padded border too
    assert float(ms_ssim_of(torch.from_numpy(truth)[None], torch.from_numpy(truth)[None])) == pytest.approx(1)
    with pytest.raises(ValueError, match="larger than 10"):
        ms_ssim_of(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8))
