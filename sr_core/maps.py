"""The values that go into super-resolution and come out of it. Frozen, each on its grid, in its unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from .grid import Affine, Grid, Shape
from .metabolites import Contrast, Metabolite, Ratio, Unit

Volume = NDArray[np.float32]
Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]


class UnusableAcquisition(ValueError):
    """Nothing in an acquisition can be super-resolved; the message says why, for people."""


def _on_grid(values: NDArray[np.generic], grid: Grid, what: str) -> None:
    if values.shape != grid.shape:
        raise ValueError(f"{what}: values of shape {values.shape} are off their grid of {grid.shape}")
    values.setflags(write=False)


@dataclass(frozen=True, eq=False)
class MetaboliteMap:
    """One metabolite's map: ``values`` (slice, row, column) in ``unit``, CRLB in % if known.

    NaN in ``values`` means "no value was exported here". CRLB 0 or ≥ 999 means "not detected".
    Raises ValueError if values or CRLB are off the grid.
    """

    metabolite: Metabolite
    values: Volume
    unit: Unit
    grid: Grid
    crlb_percent: Volume | None = None

    def __post_init__(self) -> None:
        _on_grid(self.values, self.grid, f"{self.metabolite} map")
        if self.crlb_percent is not None:
            _on_grid(self.crlb_percent, self.grid, f"CRLB of {self.metabolite}")


@dataclass(frozen=True, eq=False)
class RatioMap:
    """A ratio of metabolites, dimensionless, zero where it is not defined. Raises as MetaboliteMap."""

    ratio: Ratio
    values: Volume
    grid: Grid

    def __post_init__(self) -> None:
        _on_grid(self.values, self.grid, f"{self.ratio} map")

    @property
    def unit(self) -> Unit:
        return Unit.RATIO


@dataclass(frozen=True, eq=False)
class AnatomicalImage:
    """An anatomical image (slice, row, column) in arbitrary units on its own grid."""

    contrast: Contrast
    values: Volume
    grid: Grid

    def __post_init__(self) -> None:
        _on_grid(self.values, self.grid, f"{self.contrast} image")


@dataclass(frozen=True, eq=False)
class Acquisition:
    """What one case offers: metabolite maps on one grid, anatomy on its own grids, quality if known.

    ``snr`` (ratio), ``linewidth_ppm`` (FWHM) and ``brain_mask`` lie on the maps' grid.
    ``acquired_matrix`` (slices, rows, columns) is the k-space matrix that was measured; None if the
    exporter may have zero-filled and nothing says by how much: data consistency is then off. ``psf``
    is the filter that the acquisition or its reconstruction put on k-space, along every axis.
    Raises ValueError without a map, with two maps of one metabolite, or with a map off the common grid.
    """

    maps: tuple[MetaboliteMap, ...]
    anatomy: tuple[AnatomicalImage, ...] = ()
    snr: Volume | None = None
    linewidth_ppm: Volume | None = None
    brain_mask: Mask | None = None
    acquired_matrix: Shape | None = None
    psf: Literal["none", "hamming"] = "none"

    def __post_init__(self) -> None:
        if self.psf not in ("none", "hamming"):
            raise ValueError(f"an acquisition's psf is 'none' or 'hamming', not {self.psf!r}")
        if not self.maps:
            raise ValueError("an acquisition has at least one metabolite map")
        names = [m.metabolite for m in self.maps]
        doubled = sorted({n for n in names if names.count(n) > 1})
        if doubled:
            raise ValueError(f"two maps of one metabolite: {', '.join(doubled)}")
        for m in self.maps[1:]:
            if not m.grid.same_as(self.grid):
                raise ValueError(f"{m.metabolite} lies on another grid than {self.maps[0].metabolite}")
        for what, values in (("SNR", self.snr), ("linewidth", self.linewidth_ppm), ("mask", self.brain_mask)):
            if values is not None:
                _on_grid(values, self.grid, what)

    @property
    def grid(self) -> Grid:
        """The grid that all maps share."""
        return self.maps[0].grid

    def map_of(self, metabolite: Metabolite) -> MetaboliteMap | None:
        """The map of ``metabolite``, or None."""
        return next((m for m in self.maps if m.metabolite == metabolite), None)

    def image_of(self, contrast: Contrast) -> AnatomicalImage | None:
        """The first anatomical image of ``contrast``, or None."""
        return next((a for a in self.anatomy if a.contrast == contrast), None)


@dataclass(frozen=True, eq=False)
class MapQuality:
    """What became of each voxel of one map, on the LR grid.

    ``rejected``: failed the quality limits inside the brain. ``inpainted``: of those, repaired from
    neighbours. ``reasons`` maps a reason in words ("CRLB > 20 %") to the number of voxels it hit;
    ``reason`` is per voxel the first of them, counted from 1, and 0 where there is none.
    """

    metabolite: Metabolite
    rejected: Mask
    inpainted: Mask
    reason: Labels
    reasons: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rejected.setflags(write=False)
        self.reason.setflags(write=False)
        self.inpainted.setflags(write=False)


@dataclass(frozen=True, eq=False)
class Quality:
    """Spectral quality of a study. ``brain`` is the LR brain mask all shares are taken of.

    ``not_measured`` is on the SR grid: brain voxels whose value in any map was repaired or never
    measured, so that a viewer does not read background there as normal tissue.
    """

    brain: Mask
    maps: tuple[MapQuality, ...]
    not_measured: Mask

    @property
    def rejected_fraction(self) -> float:
        """Share of brain voxels rejected, mean over maps."""
        return self._share([q.rejected for q in self.maps])

    @property
    def inpainted_fraction(self) -> float:
        """Share of brain voxels inpainted, mean over maps."""
        return self._share([q.inpainted for q in self.maps])

    @property
    def rejected_share(self) -> Mapping[Metabolite, float]:
        """Share of brain voxels rejected, by map."""
        return {q.metabolite: self._share([q.rejected]) for q in self.maps}

    def _share(self, masks: list[Mask]) -> float:
        n = int(self.brain.sum())
        if not n or not masks:
            return 0.0
        return float(np.mean([int((m & self.brain).sum()) / n for m in masks]))


@dataclass(frozen=True)
class Region:
    """One connected lesion: volume in mL; mean, maximum and percentiles in the map's unit; patient LPS mm."""

    label: int
    volume_ml: float
    mean: float
    maximum: float
    p10: float
    p90: float
    centroid_mm: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Lesion:
    """The metabolic lesion in one map ("HGG", "TCN", "2HG") on the SR grid.

    ``threshold`` is in the map's unit, ``rule`` says in words where it came from.
    """

    source: str
    mask: Mask
    threshold: float
    rule: str
    regions: tuple[Region, ...]
    mean: float
    maximum: float

    def __post_init__(self) -> None:
        self.mask.setflags(write=False)

    @property
    def volume_ml(self) -> float:
        """Total volume of all regions in mL."""
        return float(sum(r.volume_ml for r in self.regions))


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """A map of doubt on the SR grid, in the unit of the map it belongs to, by a named method."""

    of: str
    method: str
    values: Volume

    def __post_init__(self) -> None:
        self.values.setflags(write=False)


@dataclass(frozen=True, eq=False)
class Novelty:
    """How unlike clean studies a study is, before super-resolution.

    ``score``: how many spreads its strongest sign lies above what is usual, at least 0; ``threshold``:
    what clean studies stay below; ``reason``: the strongest sign in words; ``signs``: every sign's own
    figure, by name (``sr_core.novelty``).
    """

    score: float
    threshold: float
    reason: str
    signs: Mapping[str, float]

    @property
    def is_unlike(self) -> bool:
        """Whether it lies beyond what clean studies show: results should not be trusted unseen."""
        return self.score > self.threshold


@dataclass(frozen=True, eq=False)
class RigidMotion:
    """Where an image was taken to lie: ``matrix`` (4 × 4) takes the maps' LPS mm to the image's own.

    None: by affines alone, as the header says.
    """

    contrast: Contrast
    matrix: Affine | None


@dataclass(frozen=True)
class Provenance:
    """How a result came to be: enough to make it again.

    ``model_hash`` is the sha256 of the weights ("" without a network); ``settings_hash`` of every
    setting that changes a voxel; ``timings_s`` seconds by step; ``warnings`` are sentences for people.
    """

    method_requested: str
    method_used: str
    factor: Shape
    guides: tuple[Contrast, ...]
    model_hash: str
    settings_hash: str
    registration: str | None
    steps: tuple[str, ...]
    warnings: tuple[str, ...]
    timings_s: Mapping[str, float]
    software: str


@dataclass(frozen=True, eq=False)
class SuperResolved:
    """Maps, ratios, lesions and anatomy on one super-resolved grid, with what is known of their quality.

    ``motions``: of each image of ``anatomy``, how it came onto the grid. ``novelty``: how unlike
    clean studies the input is, None for one too small to be judged.
    """

    grid: Grid
    brain: Mask
    maps: tuple[MetaboliteMap, ...]
    ratios: tuple[RatioMap, ...]
    uncertainty: tuple[Uncertainty, ...]
    lesion: tuple[Lesion, ...]
    anatomy: tuple[AnatomicalImage, ...]
    motions: tuple[RigidMotion, ...]
    quality: Quality
    provenance: Provenance
    novelty: Novelty | None = None

    def lies_as_its_header_says(self, contrast: Contrast) -> bool:
        """Whether ``contrast`` was used, and by affines alone: its own planes show the maps' positions."""
        return any(m.contrast == contrast and m.matrix is None for m in self.motions)


class SuperResolver(Protocol):
    """All that a caller asks of super-resolution. Deterministic for one acquisition, model and settings."""

    def __call__(self, acquisition: Acquisition) -> SuperResolved: ...
