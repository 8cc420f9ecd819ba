"""Presentation states: what a reader of them shows, by pydicom's own palettes and windows."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.pixels import apply_color_lut

from dicom_node.config import OutputRules
from dicom_node.encode import EncodedObject, checked, encode_study
from dicom_node.encode.check import check
from dicom_node.encode.overlay import lookup
from dicom_node.errors import BadObject
from tests import phantom
from tests.harness import dciodvfy_errors

FEW = {"parametric_maps": (), "summary": False, "measurements": False, "segmentation": False}


@pytest.fixture(scope="module")
def objects() -> list[EncodedObject]:
    source = phantom.source_study("oblique")
    result = phantom.super_resolved(source)
    rules = OutputRules(**FEW, fused_maps=("HGG",), presentation_states=True)
    return list(checked(encode_study(result, source, rules), result, source))


def named(objects: list[EncodedObject], name: str) -> Dataset:
    return next(o.dataset for o in objects if o.name == name)


def windowed(slice_: Dataset, item: Dataset) -> np.ndarray:
    """Stored values from 0 to 255 by the window of a presentation (PS3.3 C.11.2.1.2)."""
    centre, width = float(item.WindowCenter), float(item.WindowWidth)
    values = np.frombuffer(slice_.PixelData, "<u2").astype(float).reshape(slice_.Rows, slice_.Columns)
    return np.rint(np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1) * 255).astype(np.uint8)


def test_pseudo_colour_gives_each_value_the_colour_of_the_colour_series(objects, tmp_path):
    d = named(objects, "PR_colour_HGG")
    slices = [o.dataset for o in objects if o.name.startswith("MR_HGG")]
    (series,) = d.ReferencedSeriesSequence
    assert [r.ReferencedSOPInstanceUID for r in series.ReferencedImageSequence] == [
        s.SOPInstanceUID for s in slices
    ]
    (window,) = d.SoftcopyVOILUTSequence
    assert float(window.WindowCenter) == float(slices[0].WindowCenter)
    grey = windowed(slices[6], window)
    shown = apply_color_lut(grey, d)
    assert np.abs(shown / 257 - lookup()[grey]).max() <= 0.5 / 257 + 1e-3
    assert len(np.unique(grey)) > 100
    d.save_as(tmp_path / "pr.dcm", enforce_file_format=True)
    assert dciodvfy_errors([tmp_path / "pr.dcm"]) == []


def test_blending_lays_the_coloured_map_over_the_grey_anatomy(objects, tmp_path):
    d = named(objects, "PR_overlay_HGG")
    beneath, above = sorted(d.AdvancedBlendingSequence, key=lambda item: item.BlendingInputNumber)
    anatomy, map_ = named(objects, "MR_anatomy_T1_0007"), named(objects, "MR_HGG_0007")
    assert (beneath.SeriesInstanceUID, above.SeriesInstanceUID) == (
        anatomy.SeriesInstanceUID,
        map_.SeriesInstanceUID,
    )
    grey = windowed(anatomy, beneath.SoftcopyVOILUTSequence[0])
    shown = apply_color_lut(grey, beneath.PaletteColorLookupTableSequence[0])
    assert np.array_equal(shown, np.repeat(grey[..., None].astype(np.uint16) * 257, 3, axis=-1))
    (display,) = d.BlendingDisplaySequence
    assert (display.BlendingMode, display.RelativeOpacity) == ("FOREGROUND", pytest.approx(0.6))
    d.save_as(tmp_path / "pr.dcm", enforce_file_format=True)
    assert dciodvfy_errors([tmp_path / "pr.dcm"]) == []


def test_the_gate_holds_a_presentation_of_what_is_not_sent_and_none_is_made_unasked(objects):
    with pytest.raises(BadObject, match="not sent before it"):
        check([o for o in objects if not o.name.startswith("MR_HGG_0003")][-2:])
    spoiled = [EncodedObject(copy.copy(o.dataset), o.kind, o.name) for o in objects if o.kind != "SC"]
    state = next(o for o in spoiled if o.name == "PR_colour_HGG").dataset
    state.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID = "2.25.9"
    with pytest.raises(BadObject, match="PR_colour_HGG: refers to an instance that is not sent before it"):
        check(spoiled)
    source = phantom.source_study(anatomy_frame=None)
    result = phantom.super_resolved(source)
    rules = {**FEW, "fused_maps": ("HGG",)}
    assert not [o for o in encode_study(result, source, OutputRules(**rules)) if o.kind == "PR"]
    bare = encode_study(result, source, OutputRules(**rules, presentation_states=True))
    assert [o.name for o in bare if o.kind == "PR"] == ["PR_colour_HGG"]  # no anatomy, nothing to blend
