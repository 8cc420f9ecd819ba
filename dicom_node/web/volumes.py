"""Volumes of a study for people to look at: results as they left, and maps as they were measured.

Results are read from the DICOM objects themselves (Parametric Map, MR, Segmentation), so that what is shown
is what a PACS got. Each lies on its grid, in patient LPS; NIfTI (RAS) is made at the border.
"""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

import highdicom as hd
import numpy as np
import pydicom
from pydicom import Dataset

from dicom_node import layouts, ras
from dicom_node.config import IdentifyRules
from dicom_node.decode import decode
from dicom_node.decode.stack import read_stack
from dicom_node.encode.fused import unit_words
from dicom_node.encode.measured import as_measured
from dicom_node.errors import NotDicom, PermanentError
from dicom_node.process import Case, identify_case
from dicom_node.series import Part, Role
from dicom_node.spool import Spool
from dicom_node.store import Made, ResultSet, Store
from dicom_node.study import CaseKey
from sr_core import Grid, Mask, Metabolite, Ratio, Unit, Volume

LayerKind = Literal["anatomy", "map", "measured", "segment"]

_KEPT_BYTES = 384 * 1024**2  # of volumes in memory
_ANATOMY, _SEGMENTATION = "MR_anatomy_", "SEG_lesion"
_LESION = "Metabolic lesion "  # how the labels of lesions begin, before the map
_GONE = "the files of this study have left the spool: their retention time is over"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Layer:
    """One volume that can be shown. ``key`` names it within its study ("anatomy", "sr-HGG", "lr-HGG").

    ``tag`` changes whenever its voxels do. ``window``: from 0 to here it is shown at first, in ``unit``.
    """

    key: str
    name: str
    kind: LayerKind
    unit: str
    tag: str
    window: float
    label: str = ""


@dataclass(frozen=True, eq=False)
class Shown:
    """A layer's voxels: (slice, row, column) on their grid; of a segment, where it is."""

    layer: Layer
    values: Volume | Mask
    grid: Grid

    def as_nifti(self) -> bytes:
        """As gzipped NIfTI, in RAS."""
        return gzip.compress(ras.image_of(self.values, self.grid).to_bytes(), 1, mtime=0)

    @cached_property
    def limits(self) -> tuple[float, float]:
        """What is shown as black and as white of anatomy."""
        inside = self.values[self.values > 0]
        if not inside.size:
            return 0.0, 1.0
        low, high = (float(x) for x in np.percentile(inside, (1, 99.5)))
        return min(low, 0.3 * high), high

    def at(self, point_mm: Sequence[float]) -> float | None:
        """The value of the voxel that holds ``point_mm`` (patient LPS); None outside, or if not a number."""
        index = np.rint(self.grid.to_index(point_mm)).astype(int)
        if (index < 0).any() or (index >= self.grid.shape).any():
            return None
        value = float(self.values[tuple(index)])
        return value if np.isfinite(value) else None


class StudyVolumes:
    """The volumes of one result set. Making one reads headers only; ``load`` reads voxels."""

    def __init__(self, results: ResultSet, source: _Source, spool: Spool, shelf: Shelf) -> None:
        self.key = results.key
        self._spool = spool
        self._shelf = shelf
        self._source = source
        self._by_name = {m.name: m for m in results.made}
        self.warnings: list[str] = []
        self.layers: Mapping[str, Layer] = {layer.key: layer for layer in self._find()}

    def _find(self) -> Sequence[Layer]:
        return [*self._anatomy(), *self._maps(), *self._measured(), *self._segments()]

    def load(self, key: str) -> Shown:
        """Raises KeyError for a layer that there is not, NotDicom if its file is gone."""
        layer = self.layers[key]
        return self._shelf.get(layer.tag, lambda: self._read(layer))

    def file_named(self, name: str) -> Path | None:
        """The DICOM file of the result ``name``, if there is one."""
        return self._path(name) if name in self._by_name else None

    def _read(self, layer: Layer) -> Shown:
        if layer.kind == "measured":
            return self._source.measured(self._shelf)[layer.key]
        if layer.kind == "segment":
            path = self._path(_SEGMENTATION)
            masks = self._shelf.together(self._by_name[_SEGMENTATION].sha256, lambda: _segments(path))
            return self._on_the_maps_grid(layer, masks[layer.key])
        names = self._planes() if layer.kind == "anatomy" else [f"PM_{layer.name}"]
        return _stacked(layer, [self._path(name) for name in names])

    def _on_the_maps_grid(self, layer: Layer, part: Shown) -> Shown:
        """A segmentation leaves out planes without any segment: put them back."""
        key = next((x.key for x in self.layers.values() if x.kind == "map"), None)
        if key is None:
            return replace(part, layer=layer)
        whole = self.load(key).grid
        first = np.rint(whole.to_index(part.grid.to_patient((0, 0, 0)))).astype(int)
        last = first + part.grid.shape
        if (first < 0).any() or (last > whole.shape).any():
            return replace(part, layer=layer)
        mask = np.zeros(whole.shape, dtype=bool)
        mask[tuple(slice(a, b) for a, b in zip(first, last, strict=True))] = part.values
        return Shown(layer, mask, whole)

    def _path(self, name: str) -> Path:
        return self._spool.path(self._by_name[name].path)

    def _is_kept(self, name: str) -> bool:
        """What has left the spool is not shown from memory either."""
        kept = self._path(name).exists()
        if not kept:
            self._warn(_GONE)
        return kept

    def _planes(self) -> list[str]:
        return [name for name in self._by_name if name.startswith(_ANATOMY)]

    def _anatomy(self) -> list[Layer]:
        planes = self._planes()
        if not planes:
            return []
        if not self._is_kept(planes[0]):
            return []
        contrast = planes[0].removeprefix(_ANATOMY).partition("_")[0]
        tag = _tag(*(self._by_name[name].sha256 for name in planes))
        return [Layer("anatomy", contrast, "anatomy", "", tag, 0.0, f"{contrast} on the maps' grid")]

    def _maps(self) -> list[Layer]:
        found = []
        for name, made in self._by_name.items():
            if made.kind != "PM" or name.count("_") > 1:  # PM_tNAA_half_width: a doubt, no map
                continue
            if not self._is_kept(name):
                continue
            try:
                found.append(self._shelf.header(made.sha256, lambda m=made: _described(m, self._spool)))  # type: ignore[misc]
            except NotDicom as problem:
                self._warn(str(problem))
        order = [*Ratio, *Metabolite]
        return sorted(found, key=lambda layer: order.index(layer.name) if layer.name in order else len(order))

    def _measured(self) -> list[Layer]:
        try:
            return [shown.layer for shown in self._source.measured(self._shelf).values()]
        except PermanentError as problem:
            self._warn(f"The maps as measured cannot be shown: {problem}")
            return []

    def _segments(self) -> list[Layer]:
        made = self._by_name.get(_SEGMENTATION)
        if made is None:
            return []
        try:
            described = _dataset(self._path(_SEGMENTATION), pixels=False).SegmentSequence
        except NotDicom as problem:
            self._warn(str(problem))
            return []
        found = []
        for segment in described:
            number, label = int(segment.SegmentNumber), str(segment.SegmentLabel)
            name = label.removeprefix(_LESION)
            found.append(
                Layer(f"segment-{number}", name, "segment", "", _tag(made.sha256, str(number)), 1.0, label)
            )
        return found

    def _warn(self, words: str) -> None:
        if words not in self.warnings:
            self.warnings.append(words)


class Shelf:
    """Volumes that were read, the last ones asked for, for all who look. Safe between threads."""

    def __init__(self, most_bytes: int = _KEPT_BYTES) -> None:
        self._most = most_bytes
        self._held: OrderedDict[str, Shown] = OrderedDict()
        self._headers: OrderedDict[str, Layer] = OrderedDict()
        self._together: OrderedDict[str, Mapping[str, Shown]] = OrderedDict()
        self._lock = threading.Lock()
        self._reading = threading.RLock()  # one reads at a time: two would read the same twice

    def get(self, tag: str, read: Callable[[], Shown]) -> Shown:
        """The volume of ``tag``, from memory or read now."""
        with self._lock:
            if tag in self._held:
                self._held.move_to_end(tag)
                return self._held[tag]
        with self._reading:
            with self._lock:
                if tag in self._held:
                    return self._held[tag]
            shown = read()
            with self._lock:
                self._held[tag] = shown
                while len(self._held) > 1 and sum(s.values.nbytes for s in self._held.values()) > self._most:
                    self._held.popitem(last=False)
        return shown

    def header(self, sha256: str, read: Callable[[], Layer]) -> Layer:
        """What a file's header says of its layer."""
        return _remembered(self._headers, sha256, read, 512, self._lock)

    def together(self, tag: str, read: Callable[[], Mapping[str, Shown]]) -> Mapping[str, Shown]:
        """Small volumes that are read in one go: a study's maps as measured, its segments."""
        return _remembered(self._together, tag, read, 16, self._lock)


def _remembered(
    held: OrderedDict[str, _T], key: str, read: Callable[[], _T], most: int, lock: threading.Lock
) -> _T:
    with lock:
        if key in held:
            held.move_to_end(key)
            return held[key]
    value = read()
    with lock:
        held[key] = value
        while len(held) > most:
            held.popitem(last=False)
    return value


@dataclass(frozen=True)
class _Source:
    """What a revision was made of."""

    tag: str
    case: Case
    rules: IdentifyRules

    def measured(self, shelf: Shelf) -> Mapping[str, Shown]:
        """Maps as measured, and the ratios of them, by layer. Raises UnsuitableInput, NotDicom."""
        if not all(path.exists() for path in self.case.instances.values()):
            raise NotDicom(_GONE)
        return shelf.together(self.tag, self._decode)

    def _decode(self) -> Mapping[str, Shown]:
        if self.case.nifti_folder is not None:
            acquisition = layouts.required(self.case.nifti_folder).study().acquisition
        else:
            identified = identify_case(self.case, self.rules)
            maps = [s for s in identified.series if s.role is Role.METABOLITE_MAP]
            paths = self.case.instances
            acquisition = decode(maps, lambda uid: _dataset(paths[uid]), self.rules).acquisition
        units = {str(m.metabolite): m.unit for m in acquisition.maps} | dict.fromkeys(Ratio, Unit.RATIO)
        layers = {}
        for name, unit in units.items():
            values = as_measured(acquisition, name)
            if values is None:
                continue
            key = f"lr-{name}"
            tag, words = _tag(self.tag, key), unit_words(unit)
            layer = Layer(key, name, "measured", words, tag, _top(values), f"{name} as measured")
            layers[key] = Shown(layer, values, acquisition.grid)
        return layers


def volumes_of(
    store: Store, spool: Spool, rules: IdentifyRules, shelf: Shelf, case: str, revision: int | None = None
) -> StudyVolumes | None:
    """The volumes of a case's newest results; None if there are none."""
    results = store.newest_results(case, revision)
    if results is None:
        return None
    return StudyVolumes(results, _source(store, spool, rules, results.key), spool, shelf)


def _source(store: Store, spool: Spool, rules: IdentifyRules, key: CaseKey) -> _Source:
    folder = store.revision(key).nifti_folder
    if folder is not None:
        return _Source(_tag(folder, str(key)), Case({}, Path(folder)), rules)
    # The headers of the maps alone, where the store knows which they are: the rest are many more.
    members = sorted(
        store.members_taken_for(key, Role.METABOLITE_MAP) or store.members(key), key=lambda m: m.sop_uid
    )
    paths = {m.sop_uid: spool.path(m.path) for m in members}
    tag = _tag(rules.model_dump_json(), *(m.sha256 for m in members))
    return _Source(tag, Case(paths), rules)


def _dataset(path: Path, *, pixels: bool = True) -> Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except FileNotFoundError as e:
        raise NotDicom(_GONE) from e


def _described(made: Made, spool: Spool) -> Layer:
    """From the header alone: name, unit and window of a Parametric Map."""
    d = _dataset(spool.path(made.path), pixels=False)
    shared = d.SharedFunctionalGroupsSequence[0]
    mapping = shared.RealWorldValueMappingSequence[0]
    name = str(mapping.LUTLabel)
    unit = Unit(str(mapping.MeasurementUnitsCodeSequence[0].CodeValue))
    voi = shared.get("FrameVOILUTSequence") or d.PerFrameFunctionalGroupsSequence[0].FrameVOILUTSequence
    top = float(voi[0].WindowCenter) + float(voi[0].WindowWidth) / 2
    return Layer(
        f"sr-{name}", name, "map", unit_words(unit), _tag(made.sha256), top, str(mapping.LUTExplanation)
    )


def _stacked(layer: Layer, paths: Sequence[Path]) -> Shown:
    """A volume of classic instances, or of one with frames, by the same reader as what comes in."""
    instances = {str(n): _dataset(path) for n, path in enumerate(paths)}
    stack = read_stack(Part(tuple(instances)), instances.__getitem__, layer.name, IdentifyRules())
    frame = next(iter(stack.frames_of_reference))
    return Shown(layer, stack.values, Grid(stack.shape, stack.affine, frame))


def _segments(path: Path) -> Mapping[str, Shown]:
    """Every segment as a mask, by layer, on the planes that any segment is on."""
    segmentation = hd.seg.Segmentation.from_dataset(_dataset(path), copy=False)
    volume = segmentation.get_volume(combine_segments=False)
    masks, affine = volume.array > 0, np.array(volume.affine)
    if np.cross(affine[:3, 2], affine[:3, 1]) @ affine[:3, 0] < 0:  # highdicom may stack planes descending
        affine[:3, 3] += affine[:3, 0] * (masks.shape[0] - 1)
        affine[:3, 0] *= -1
        masks = masks[::-1]
    shape = (masks.shape[0], masks.shape[1], masks.shape[2])
    grid = Grid(shape, affine, str(segmentation.FrameOfReferenceUID))
    found = {}
    for place, number in enumerate(segmentation.segment_numbers):
        key = f"segment-{number}"
        mask = np.ascontiguousarray(masks[..., place])
        found[key] = Shown(Layer(key, "", "segment", "", "", 1.0), mask, grid)
    return found


def _top(values: Volume) -> float:
    inside = values[np.isfinite(values) & (values > 0)]
    return float(f"{np.percentile(inside, 99.5):.4g}") if inside.size else 1.0


def _tag(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
