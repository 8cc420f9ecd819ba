"""Parametric Map, float32: the quantitative master of each map (PS3.3 A.75)."""

from __future__ import annotations

import re

import highdicom as hd
import numpy as np
from pydicom import Dataset

from dicom_node import codes

from .encoded import EncodedObject
from .multiframe import construction, finished, plane_numbers
from .planes import ParentSeries, strings
from .production import PARAMETRIC_MAP_SERIES, MapToEncode, Production, display_window
from .references import anatomy_sources, map_sources


def parametric_map_of(production: Production, m: MapToEncode, parent: ParentSeries) -> EncodedObject:
    """``m`` as one Parametric Map on the planes of ``parent``, frames ascending along row × column.

    Ascending, because readers pour frames into the parent's volume in stored order; with Frame
    Anatomy, because readers fail without; Modality MR, so that hanging protocols keep it by its parent.
    """
    centre, width = display_window(m.values, production.result.brain)
    built = hd.pm.ParametricMap(
        pixel_array=np.ascontiguousarray(m.values, dtype=np.float32),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            hd.pm.RealWorldValueMapping(
                lut_label=m.name,
                lut_explanation=m.explanation,
                unit=codes.unit(m.unit),
                value_range=(float(m.values.min()), float(m.values.max())),
                slope=1.0,
                intercept=0.0,
                quantity_definition=m.quantity,
            )
        ],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=centre, window_width=width)],
        content_label=f"SR_{re.sub('[^A-Z0-9]', '_', m.name.upper())}",
        content_description=m.explanation,
        content_qualification=production.rules.content_qualification,
        image_flavor="VOLUME",
        derived_pixel_contrast="QUANTITY",
        **construction(production, parent),
    )
    _sort_ascending(built, m, parent)
    sources = [
        *map_sources(m.name, production.source),
        *(
            header
            for contrast in production.result.provenance.guides
            for header in anatomy_sources(contrast, production.source)
        ),
    ]
    d = finished(
        built,
        production,
        parent,
        role=f"PM {m.name}",
        number=production.series_number(PARAMETRIC_MAP_SERIES + m.rank),
        tail=f"{m.label} PM",
        derivation=codes.METABOLITE_MAPS_FROM_SPECTROSCOPY,
        purpose=codes.SOURCE_IMAGE,
        sources=sources,
    )
    d.Modality = "MR"
    d.DerivationDescription = production.derivation(f"{m.label} map")
    d.DerivationCodeSequence = [codes.item(codes.METABOLITE_MAPS_FROM_SPECTROSCOPY)]
    d.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_brain()]
    return EncodedObject(d, "PM", f"PM_{m.name}")


def _sort_ascending(built: Dataset, m: MapToEncode, parent: ParentSeries) -> None:
    """Frames in the order of the parent's planes; highdicom stores them descending."""
    planes = plane_numbers(parent)
    frames = sorted(
        built.PerFrameFunctionalGroupsSequence,
        key=lambda f: planes[strings(f.PlanePositionSequence[0].ImagePositionPatient)],
    )
    for number, frame in enumerate(frames, start=1):
        frame.FrameContentSequence[0].DimensionIndexValues = [number]
    built.PerFrameFunctionalGroupsSequence = frames
    built.FloatPixelData = np.ascontiguousarray(m.values, dtype="<f4").tobytes()


def _brain() -> Dataset:
    anatomy = Dataset()
    anatomy.FrameLaterality = "U"
    anatomy.AnatomicRegionSequence = [codes.item(codes.BRAIN)]
    return anatomy
