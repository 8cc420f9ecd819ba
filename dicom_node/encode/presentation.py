"""Presentation states: how a derived MR series is to be coloured, and laid over the anatomy (PS3.3 A.33)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from sr_core import AnatomicalImage

from .anatomy import stored_anatomy
from .derived_mr import scale_of, stored_values
from .encoded import EncodedObject
from .headers import document_header, identify_single
from .overlay import lookup
from .planes import ParentSeries, Reference
from .production import PRESENTATION_SERIES, MapToEncode, Production, display_window
from .report import evidence

_GREY = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, axis=1)
_OPACITY = 0.6  # of the map over the anatomy


def presentation_states(
    production: Production,
    m: MapToEncode,
    place: int,
    series: ParentSeries,
    anatomy: tuple[AnatomicalImage, ParentSeries] | None,
) -> Iterator[EncodedObject]:
    """For the derived MR ``series`` of ``m``: Pseudo-Color and, over ``anatomy``, Advanced Blending.

    Colours are those of the colour series, from 0 to the 99.5th percentile in the brain.
    """
    window = _window(production, stored_values(m.values, scale_of(m)))
    images = [_image(r, series) for r in series.references]
    coloured = hd.pr.PseudoColorSoftcopyPresentationState(
        referenced_images=images,
        palette_color_lut_transformation=_palette(lookup()),
        **_placeholders("COLOUR", f"{m.label} in colour"),
    )
    coloured.SoftcopyVOILUTSequence = [window]  # the constructor's own way fails in highdicom 0.28.2
    yield _finished(
        production,
        coloured,
        f"PR colour {m.name}",
        PRESENTATION_SERIES + 2 * place,
        f"{m.label} in colour",
    )
    if anatomy is None:
        return
    image, planes = anatomy
    beneath = [_image(r, planes) for r in planes.references]
    yield _finished(
        production,
        hd.pr.AdvancedBlendingPresentationState(
            referenced_images=[*beneath, *images],
            blending=[
                hd.pr.AdvancedBlending(
                    referenced_images=beneath,
                    blending_input_number=1,
                    voi_lut_transformations=[_window(production, stored_anatomy(image))],
                    palette_color_lut_transformation=_palette(_GREY),
                ),
                hd.pr.AdvancedBlending(
                    referenced_images=images,
                    blending_input_number=2,
                    voi_lut_transformations=[window],
                    palette_color_lut_transformation=_palette(lookup()),
                ),
            ],
            blending_display=[
                hd.pr.BlendingDisplay(
                    blending_mode="FOREGROUND",
                    blending_display_inputs=[
                        hd.pr.BlendingDisplayInput(2),
                        hd.pr.BlendingDisplayInput(1),
                    ],
                    relative_opacity=_OPACITY,
                )
            ],
            **_placeholders("OVERLAY", f"{m.label} over anatomy"),
        ),
        f"PR overlay {m.name}",
        PRESENTATION_SERIES + 2 * place + 1,
        f"{m.label} over anatomy",
    )


def _window(production: Production, stored: NDArray[np.uint16]) -> hd.pr.SoftcopyVOILUTTransformation:
    centre, width = display_window(stored, production.result.brain)
    return hd.pr.SoftcopyVOILUTTransformation(window_center=centre, window_width=max(width, 1.0))


def _palette(rgb: NDArray[np.float32]) -> hd.PaletteColorLUTTransformation:
    """256 entries (from 0 to 255) in 16 bit."""
    colours = np.rint(rgb * 257).astype(np.uint16)
    red, green, blue = (
        hd.PaletteColorLUT(first_mapped_value=0, lut_data=np.ascontiguousarray(colours[:, i]), color=name)
        for i, name in enumerate(("red", "green", "blue"))
    )
    return hd.PaletteColorLUTTransformation(red, green, blue)


def _image(r: Reference, series: ParentSeries) -> Dataset:
    """As much of a slice as highdicom's constructors look at."""
    d = evidence(r)
    d.Rows, d.Columns = series.planes.rows, series.planes.columns
    d.FrameOfReferenceUID = series.planes.frame_of_reference
    d.BitsAllocated = d.BitsStored = 16
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    return d


def _placeholders(label: str, description: str) -> dict[str, Any]:
    """What ``_finished`` replaces by the true ones, and the label."""
    return {
        "series_instance_uid": "2.25.1",
        "series_number": 1,
        "sop_instance_uid": "2.25.2",
        "instance_number": 1,
        "manufacturer": "placeholder",
        "manufacturer_model_name": "placeholder",
        "software_versions": "placeholder",
        "device_serial_number": "placeholder",
        "content_label": label,
        "content_description": description[:64],
        "content_creator_name": "MRSI-SR^Node",
    }


def _finished(production: Production, built: Dataset, role: str, number: int, tail: str) -> EncodedObject:
    d = Dataset()
    d.update(built)
    d.update(document_header(production))
    d.BodyPartExamined = "BRAIN"
    del d.ContentDate, d.ContentTime  # a presentation has times of its own
    identify_single(d, production, role, number, tail)
    return EncodedObject(d, "PR", role.replace(" ", "_"))
