"""One part's instances or frames -> one volume in order of position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset
from pydicom.tag import Tag

from dicom_node.config import IdentifyRules
from dicom_node.series import Part, site_rule, text_of
from sr_core import Affine, Shape, Volume

from .planes import Plane, affine_from_planes, ascending, plane_of
from .values import Step, frame_values, pixels

_DEFAULT_ORDER: tuple[Step, ...] = ("rwvm", "rescale", "stored")
_PIXELS = frozenset(Tag(k) for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))


@dataclass(frozen=True, eq=False)
class Stack:
    """Values (slice, row, column), their affine, and the instances they came from, slices ascending.

    ``headers`` are without pixels, one per slice or one per multi-frame instance.
    ``frames_of_reference`` holds "" where an instance names none.
    """

    values: Volume
    affine: Affine
    headers: tuple[Dataset, ...]
    frames_of_reference: frozenset[str]
    warnings: tuple[str, ...]

    @property
    def shape(self) -> Shape:
        n = self.values.shape
        return (n[0], n[1], n[2])


def read_stack(part: Part, read: Callable[[str], Dataset], name: str, rules: IdentifyRules) -> Stack:
    """Read and order ``part`` by position along the normal, never by instance number.

    Raises UnsuitableGeometry or UnsuitableInput, ``name`` first.
    """
    planes: list[Plane] = []
    values: list[Volume] = []
    headers: list[Dataset] = []
    owners: list[int] = []
    steps: set[Step] = set()
    outside = 0
    for uid in part.sop_uids:
        instance = read(uid)
        header = without_pixels(instance)
        site = site_rule(header, rules)
        stored = pixels(instance, name)
        for number in range(len(stored)) if part.frames is None else part.frames:
            groups = frame_groups(header, number)
            planes.append(plane_of(header, groups, name))
            frame = frame_values(stored[number], header, groups, site.value_order if site else _DEFAULT_ORDER)
            values.append(frame.values.astype(np.float32))
            steps.add(frame.step)
            outside += frame.outside
            owners.append(len(headers))
        headers.append(header)
    affine = affine_from_planes(planes, name)
    order = ascending(planes)
    volume: Volume = np.stack([values[i] for i in order])
    in_order = tuple(headers[i] for i in dict.fromkeys(owners[i] for i in order))
    return Stack(
        values=volume,
        affine=affine,
        headers=in_order,
        frames_of_reference=frozenset(text_of(h, "FrameOfReferenceUID") for h in headers),
        warnings=_warnings(part, steps, outside, headers),
    )


def frame_groups(header: Dataset, number: int) -> tuple[Dataset, ...]:
    """Functional groups of frame ``number``, then the shared ones; () for a classic instance."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    shared = tuple(header.get("SharedFunctionalGroupsSequence") or ())
    if not per_frame or number >= len(per_frame):
        return shared
    return (per_frame[number], *shared)


def without_pixels(instance: Dataset) -> Dataset:
    """A copy of the data set without its pixels, text decoded by its own character set.

    An attribute whose value is not what its value representation demands is not carried on.
    """
    header = Dataset()
    for tag in instance.keys() - _PIXELS:
        with suppress(Exception):  # whatever pydicom raises over an untrusted value
            header.add(instance[tag])
    return header


def _warnings(part: Part, steps: set[Step], outside: int, headers: Sequence[Dataset]) -> tuple[str, ...]:
    said = []
    if part.metabolite and "stored" in steps:
        said.append("no real world value mapping or rescale: stored values are taken as they are")
    if outside:
        said.append(f"{outside} values lie outside their real world value mapping and count as not measured")
    if part.metabolite and any(text_of(h, "LossyImageCompression") == "01" for h in headers):
        said.append("its pixels went through lossy compression: values are not exact")
    return tuple(said)
