"""Registration and motion on a real T1 with simulated maps: found to a fraction of a voxel, never in vain."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sr_core import AnatomicalImage, Contrast, Grid
from sr_core.align import register_rigid
from sr_core.brain import total_signal
from sr_core.grid import Affine
from sr_core.simulate import SimulatedStudy, from_icbm152, simulate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study() -> SimulatedStudy:
    """ICBM152's T1, maps at SNR 19 with a lesion that FLAIR shows elsewhere, spikes, lipid rim, holes."""
    return simulate(from_icbm152(), 100)


def brain_points(study: SimulatedStudy) -> np.ndarray:
    grid, brain = study.acquisition.grid, study.acquisition.brain_mask
    assert brain is not None
    return grid.to_patient(np.argwhere(brain))


def motion(rng: np.random.Generator, mm: float, degrees: float, centre: np.ndarray) -> Affine:
    axis, direction = (v / np.linalg.norm(v) for v in rng.standard_normal((2, 3)))
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + mm * direction
    return matrix


def test_3_mm_and_3_degrees_are_found_to_0_7(study: SimulatedStudy, figure: Callable[[str], None]) -> None:
    points = brain_points(study)
    centre = points.mean(axis=0)
    signal, grid = total_signal(study.acquisition), study.acquisition.grid
    rng = np.random.default_rng(11)
    for contrast in (Contrast.T1, Contrast.T1, Contrast.FLAIR):
        image = study.acquisition.image_of(contrast)
        assert image is not None
        true = motion(rng, 3.0, 3.0, centre)
        away = AnatomicalImage(
            contrast, image.values, Grid(image.grid.shape, true @ image.grid.affine, "9.9")
        )
        start = process_time()
        found = register_rigid(away, signal, grid)
        seconds = process_time() - start
        rest = np.linalg.inv(true) @ found.matrix
        off = np.linalg.norm(points @ rest[:3, :3].T + rest[:3, 3] - points, axis=1)
        at_centre = float(np.linalg.norm(rest[:3, :3] @ centre + rest[:3, 3] - centre))
        turned = float(np.degrees(Rotation.from_matrix(rest[:3, :3]).magnitude()))
        figure(
            f"registration {contrast}, 3 mm 3°: off by {at_centre:.2f} mm at the centre, at most "
            f"{off.max():.2f} mm in the brain, {turned:.2f}°; explains {found.quality:.2f}; "
            f"{seconds:.1f} CPU seconds"
        )
        assert at_centre < 0.7
        assert turned < 0.7
        assert off.max() < 1.0


def test_no_motion_is_found_where_there_is_none(study: SimulatedStudy, figure: Callable[[str], None]) -> None:
    for image in study.acquisition.anatomy:
        found = register_rigid(
            image, total_signal(study.acquisition), study.acquisition.grid, from_header=True
        )
        figure(
            f"registration {image.contrast}, aligned: {found.moved_mm:.2f} mm, {found.turned_deg:.2f}° found"
        )
        assert found.moved_mm < 0.7
        assert found.turned_deg < 0.7
