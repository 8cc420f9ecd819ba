"""The training loop: seeded, resumable, validated on its own subjects."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, Dataset

from sr_core.layers import DataConsistency
from sr_core.losses import data_loss, discriminator_loss, generator_loss
from sr_core.model import has_fast_bfloat16
from sr_core.networks import Discriminator, UNet

from .cases import Case
from .config import Phase, Recipe
from .curves import draw_curves
from .data import Batch, Crops, WholeMap
from .validate import validate

CHECKPOINT = "checkpoint.pt"


@dataclass
class _State:
    """What a checkpoint holds. ``average`` is the moving average that is exported."""

    network: UNet
    average: dict[str, Tensor]
    adam: torch.optim.Adam
    discriminator: Discriminator | None
    adam_d: torch.optim.Adam | None
    iteration: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    recipe: Recipe,
    training: Sequence[Case],
    validation: Sequence[Case],
    folder: Path,
    device: str,
    resume: bool,
    start: Mapping[str, Tensor] | None = None,
) -> tuple[UNet, list[dict[str, float]]]:
    """Train through every phase of ``recipe``; returns the averaged network and the history.

    A checkpoint is written whole or not at all at every validation; with ``resume`` training goes on
    from it to the same weights, bit for bit, as if it had never stopped (on one machine and thread
    count). ``start``: weights to begin from. Under ``torchrun`` each process draws its share of a batch
    and the first one validates and writes.
    """
    where = torch.device(
        "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    )
    torch.manual_seed(recipe.seed)
    with _processes(where) as (rank, world):
        state = _fresh(recipe, where, start)
        if resume and (folder / CHECKPOINT).exists():
            _restore(state, folder / CHECKPOINT, where)
        _run(recipe, training, validation, folder, where, state, rank, world)
    return _averaged(recipe, state), state.history


def _run(
    recipe: Recipe,
    training: Sequence[Case],
    validation: Sequence[Case],
    folder: Path,
    where: torch.device,
    state: _State,
    rank: int,
    world: int,
) -> None:
    crops = Crops(training, recipe.network, recipe.seed, recipe.dropout)
    generator = _shared(state.network, world)
    judge = None if state.discriminator is None else _shared(state.discriminator, world)
    if recipe.compile:
        generator = torch.compile(generator)  # type: ignore[assignment]
    began = time.monotonic()
    losses: list[dict[str, float]] = []
    with Progress(disable=rank > 0) as bar:
        task = bar.add_task(recipe.name, total=recipe.iterations, completed=state.iteration)
        for drawn in _batches(recipe, crops, state.iteration, rank, world, where):
            phase, rate = recipe.phase_at(state.iteration)
            for optimiser in (state.adam, state.adam_d):
                for group in optimiser.param_groups if optimiser else ():
                    group["lr"] = rate
            if isinstance(drawn, WholeMap):
                losses.append(_consistent_step(recipe, phase, drawn, state, generator, where))
            else:
                losses.append(_crop_step(recipe, phase, drawn.to(where), state, generator, judge))
            state.iteration += 1
            _average(recipe, state)
            bar.advance(task)
            if state.iteration % recipe.validate_every == 0 or state.iteration == recipe.iterations:
                if rank == 0:
                    figures = validate(_averaged(recipe, state), validation, where)
                    mean = {k: float(np.mean([row[k] for row in losses if k in row])) for k in losses[-1]}
                    row = {"iteration": state.iteration, **mean, **figures}
                    state.history.append(row)
                    words = {k: round(v, 6) for k, v in row.items()}
                    bar.console.print(json.dumps({**words, "seconds": round(time.monotonic() - began)}))
                    _save(state, folder)
                    draw_curves(state.history, folder / "curves.png")
                losses.clear()
                if world > 1:
                    distributed.barrier()


class _Drawn(Dataset[Batch | WholeMap]):
    """Item ``i`` is what iteration ``i`` learns from."""

    def __init__(self, recipe: Recipe, crops: Crops, rank: int, world: int) -> None:
        self._recipe, self._crops, self._rank, self._world = recipe, crops, rank, world

    def __getitem__(self, iteration: int) -> Batch | WholeMap:
        phase, _ = self._recipe.phase_at(iteration)
        number = iteration * self._world + self._rank
        if phase.consistent:
            return self._crops.whole(number)
        return self._crops.batch(number, max(phase.batch // self._world, 1), phase.crop)


def _batches(
    recipe: Recipe, crops: Crops, start: int, rank: int, world: int, device: torch.device
) -> DataLoader[Batch | WholeMap]:
    """What is left to learn from, drawn ahead by processes of their own."""
    workers = min(8, os.cpu_count() or 1) if device.type == "cuda" else 1
    return DataLoader(
        _Drawn(recipe, crops, rank, world),
        batch_size=None,
        sampler=range(start, recipe.iterations),
        num_workers=workers,
        collate_fn=None,
        prefetch_factor=4,
    )


def _crop_step(
    recipe: Recipe,
    phase: Phase,
    batch: Batch,
    state: _State,
    generator: nn.Module,
    judge: nn.Module | None,
) -> dict[str, float]:
    with _autocast(batch.stack.device):
        predicted = generator(batch.stack, batch.sigma, batch.images)
    weight = _weight(recipe, batch.sigma)[:, None, None, None]
    loss = data_loss(predicted, batch.truth, batch.inside * weight, phase.l1, phase.ms_ssim)
    said = {"loss": float(loss.detach())}
    if phase.adversarial > 0:
        assert judge is not None and state.discriminator is not None and state.adam_d is not None
        # One plane of each slab: the paper's discriminator looks at slices.
        plane = state.iteration % predicted.shape[1]
        fake, real = ((t * batch.inside)[:, plane : plane + 1] for t in (predicted, batch.truth))
        with _autocast(batch.stack.device):
            doubt = discriminator_loss(judge(real).float(), judge(fake.detach()).float())
        state.adam_d.zero_grad(set_to_none=True)
        doubt.backward()  # type: ignore[no-untyped-call]
        state.adam_d.step()
        state.discriminator.requires_grad_(False)
        with _autocast(batch.stack.device):
            fooled = generator_loss(state.discriminator(fake).float())
        state.discriminator.requires_grad_(True)
        loss = loss + phase.adversarial * fooled
        said |= {"discriminator": float(doubt.detach()), "adversarial": float(fooled.detach())}
    _step(loss, state)
    return said


def _consistent_step(
    recipe: Recipe, phase: Phase, drawn: WholeMap, state: _State, generator: nn.Module, where: torch.device
) -> dict[str, float]:
    """One whole map through the network and the data-consistency layer behind it.

    Half the loss is that of the network by itself, so that it stays of use where no k-space is known.
    """
    batch = drawn.batch.to(where)
    slices, rows, columns = drawn.brain.shape
    layer = DataConsistency(drawn.measured, drawn.part, drawn.brain).to(where)
    with _autocast(where):
        predicted = generator(batch.stack, batch.sigma, batch.images)
    by_itself = data_loss(predicted, batch.truth, batch.inside, phase.l1)
    box = (predicted * batch.inside).reshape(-1, *predicted.shape[2:])[:slices, :rows, :columns]
    truth = batch.truth.reshape(-1, *predicted.shape[2:])[:slices, :rows, :columns]
    inside = torch.from_numpy(drawn.brain.astype(np.float32)).to(where)
    consistent = data_loss(layer(box)[None], truth[None], inside[None], phase.l1)
    # Of a box most is air; crops are drawn where brain is. The same weight per brain voxel as there.
    weight = float(_weight(recipe, batch.sigma)[0]) / float(drawn.brain.mean())
    loss = weight * (consistent + by_itself) / 2
    _step(loss, state)
    return {"loss": float(by_itself.detach()), "consistent": float(consistent.detach())}


def _weight(recipe: Recipe, sigma: Tensor) -> Tensor:
    """How much each crop counts."""
    if recipe.noise_at_half <= 0:
        return torch.ones_like(sigma)
    return 1 / (1 + (sigma / recipe.noise_at_half) ** 2)


def _step(loss: Tensor, state: _State) -> None:
    state.adam.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    state.adam.step()


@contextmanager
def _processes(device: torch.device) -> Iterator[tuple[int, int]]:
    """(rank, number of processes): those of ``torchrun``, or this one alone."""
    if "WORLD_SIZE" not in os.environ:
        yield 0, 1
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        yield distributed.get_rank(), distributed.get_world_size()
    finally:
        distributed.destroy_process_group()


def _shared(network: nn.Module, world: int) -> nn.Module:
    # Each process keeps its own running means: they are not part of any gradient.
    return nn.parallel.DistributedDataParallel(network, forward_sync_buffers=False) if world > 1 else network


def _autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device))


def _average(recipe: Recipe, state: _State) -> None:
    decay = min(recipe.ema, state.iteration / (state.iteration + 10))
    for name, value in state.network.state_dict().items():
        state.average[name].lerp_(value, 1 - decay)


def _fresh(recipe: Recipe, device: torch.device, start: Mapping[str, Tensor] | None) -> _State:
    network = UNet(**asdict(recipe.network))
    if start is not None:
        network.load_state_dict(dict(start))
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    discriminator, adam_d = None, None
    if recipe.adversarial:
        sizes = {p.crop for p in recipe.phases if p.adversarial > 0}
        if len(sizes) > 1:
            raise ValueError("a discriminator sees crops of one size: phases with λ > 0 share it")
        discriminator = Discriminator(sizes.pop()).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        adam_d = torch.optim.Adam(discriminator.parameters(), betas=(0.9, 0.999))
    adam = torch.optim.Adam(network.parameters(), betas=(0.9, 0.999))
    return _State(network, average, adam, discriminator, adam_d)


def _averaged(recipe: Recipe, state: _State) -> UNet:
    network = UNet(**asdict(recipe.network))
    network.load_state_dict(state.average)
    return network


def _save(state: _State, folder: Path) -> None:
    content: dict[str, Any] = {
        "network": state.network.state_dict(),
        "average": state.average,
        "adam": state.adam.state_dict(),
        "iteration": state.iteration,
        "history": state.history,
    }
    if state.discriminator is not None and state.adam_d is not None:
        content["discriminator"] = state.discriminator.state_dict()
        content["adam_d"] = state.adam_d.state_dict()
    part = folder / f"{CHECKPOINT}.part"
    with part.open("wb") as f:
        torch.save(content, f)
        f.flush()
        os.fsync(f.fileno())
    part.replace(folder / CHECKPOINT)


def _restore(state: _State, path: Path, device: torch.device) -> None:
    content = torch.load(path, map_location=device, weights_only=True)
    state.network.load_state_dict(content["network"])
    state.average = content["average"]
    state.adam.load_state_dict(content["adam"])
    state.iteration = content["iteration"]
    state.history = content["history"]
    if state.discriminator is not None and state.adam_d is not None:
        state.discriminator.load_state_dict(content["discriminator"])
        state.adam_d.load_state_dict(content["adam_d"])
