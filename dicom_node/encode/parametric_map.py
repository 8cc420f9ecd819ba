"""Parametric Map, float32: the quantitative master of each map, and of the doubt about it (PS3.3 A.75)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ParametricMapStorage

from dicom_node import codes
from sr_core import Mask, Uncertainty, Volume

from .encoded import EncodedObject
from .headers import reference_of
from .multiframe import construction, finished, plane_numbers
from .planes import ParentSeries, Reference, position_of
from .production import PARAMETRIC_MAP_SERIES, UNCERTAINTY_SERIES, MapToEncode, Production, display_window
from .references import anatomy_sources, map_sources

# How the methods of sr_core.uncertainty begin, with the short name and code of each.
_DOUBTS = {
    "half-width": ("half-width", codes.HALF_WIDTH),
    "null-space": ("null-space", codes.NULL_SPACE_SHARE),
    "guidance": ("guidance", codes.GUIDANCE),
}


@dataclass(frozen=True, eq=False)
class Values:
    """Values to be stored: under which label (at most 16 characters), what they are, where they go.

    ``words``: how they came to be; ``inside``: what their window is for; ``guides``: anatomy they owe to.
    """

    values: Volume
    inside: Mask
    words: str
    unit: Code
    quantity: Code
    label: str
    title: str
    explanation: str
    content_label: str
    role: str
    series: int
    of: str
    guides: Sequence[str] = ()


def parametric_map_of(production: Production, m: MapToEncode, parent: ParentSeries) -> EncodedObject:
    """``m`` as one Parametric Map on the planes of ``parent``, frames ascending along row × column.

    Ascending, because readers pour frames into the parent's volume in stored order; with Frame
    Anatomy, because readers fail without; Modality MR, so that hanging protocols keep it by its parent.
    """
    what = Values(
        values=m.values,
        inside=production.result.brain,
        words=production.derivation(f"{m.label} map"),
        unit=codes.unit(m.unit),
        quantity=m.quantity,
        label=m.name,
        title=m.label,
        explanation=m.explanation,
        content_label=f"SR_{code_string(m.name)}",
        role=f"PM {m.name}",
        series=PARAMETRIC_MAP_SERIES + m.rank,
        of=m.name,
        guides=production.result.provenance.guides,
    )
    return as_parametric_map(production, what, parent)


def uncertainty_maps(production: Production, parent: ParentSeries) -> Iterator[EncodedObject]:
    """Every uncertainty of a map that is there, as a Parametric Map beside it that refers to it."""
    for u in production.result.uncertainty:
        m, found = production.map_named(u.of), doubt_of(u)
        if m is None or found is None:
            continue
        name, code = found
        what = Values(
            values=u.values,
            inside=production.result.brain,
            words=production.derivation(f"{m.label} {name} map"),
            unit=codes.unit(m.unit),
            quantity=code,
            label=doubt_label(u),
            title=f"{m.label} {name}",
            explanation=u.method[:64],
            content_label=f"SR_{code_string(m.name)}_{code_string(name)}"[:16],
            role=f"PM {m.name} {name}",
            series=UNCERTAINTY_SERIES + len(_DOUBTS) * m.rank + list(_DOUBTS).index(name),
            of=m.name,
            guides=production.result.provenance.guides,
        )
        of = [reference_of(production, f"PM {m.name}", ParametricMapStorage)]
        yield as_parametric_map(production, what, parent, of if production.makes_map(m.name) else ())


def doubt_of(u: Uncertainty) -> tuple[str, Code] | None:
    """Short name and code of the kind of ``u``; None for a kind that has none."""
    return next((known for word, known in _DOUBTS.items() if u.method.startswith(word)), None)


def doubt_label(u: Uncertainty) -> str:
    """What the values of ``u`` are called in an object: "tNAA half-width"."""
    found = doubt_of(u)
    return u.of if found is None else f"{u.of} {found[0]}"


def as_parametric_map(
    production: Production, what: Values, parent: ParentSeries, of: Sequence[Reference] = ()
) -> EncodedObject:
    """``what`` on the planes of ``parent``; refers to the sources of its map, and to objects it is ``of``."""
    centre, width = display_window(what.values, what.inside)
    built = hd.pm.ParametricMap(
        pixel_array=np.ascontiguousarray(what.values, dtype=np.float32),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            hd.pm.RealWorldValueMapping(
                lut_label=what.label,
                lut_explanation=what.explanation,
                unit=what.unit,
                value_range=(float(what.values.min()), float(what.values.max())),
                slope=1.0,
                intercept=0.0,
                quantity_definition=what.quantity,
            )
        ],
        # LINEAR wants windows of 1 and more, and is off by half a unit (PS3.3 C.11.2.1.2, C.11.2.1.3.2):
        # much, where values are ratios.
        voi_lut_transformations=[
            hd.VOILUTTransformation(window_center=centre, window_width=width, voi_lut_function="LINEAR_EXACT")
        ],
        content_label=what.content_label,
        content_description=what.explanation,
        content_qualification=production.rules.content_qualification,
        image_flavor="VOLUME",
        derived_pixel_contrast="QUANTITY",
        **construction(production, parent),
    )
    _sort_ascending(built, what.values, parent)
    sources = [
        *map_sources(what.of, production.source),
        *(header for contrast in what.guides for header in anatomy_sources(contrast, production.source)),
    ]
    d = finished(
        built,
        production,
        parent,
        role=what.role,
        number=what.series,
        tail=f"{what.title} PM",
        derivation=codes.METABOLITE_MAPS_FROM_SPECTROSCOPY,
        purpose=codes.SOURCE_IMAGE,
        sources=sources,
        of=of,
    )
    d.Modality = "MR"
    d.DerivationDescription = what.words
    d.DerivationCodeSequence = [codes.item(codes.METABOLITE_MAPS_FROM_SPECTROSCOPY)]
    d.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_brain()]
    return EncodedObject(d, "PM", re.sub("[ -]", "_", what.role))


def code_string(name: str) -> str:
    return re.sub("[^A-Z0-9]", "_", name.upper())


def _sort_ascending(built: Dataset, values: Volume, parent: ParentSeries) -> None:
    """Frames in the order of the parent's planes; highdicom stores them descending."""
    planes = plane_numbers(parent)
    frames = sorted(
        built.PerFrameFunctionalGroupsSequence,
        key=lambda f: planes[position_of(f)],
    )
    for number, frame in enumerate(frames, start=1):
        frame.FrameContentSequence[0].DimensionIndexValues = [number]
    built.PerFrameFunctionalGroupsSequence = frames
    built.FloatPixelData = np.ascontiguousarray(values, dtype="<f4").tobytes()


def _brain() -> Dataset:
    anatomy = Dataset()
    anatomy.FrameLaterality = "U"
    anatomy.AnatomicRegionSequence = [codes.item(codes.BRAIN)]
    return anatomy
