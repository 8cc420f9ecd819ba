"""Presentation states: what a reader of them shows, by pydicom's own palettes and windows."""

from __future__ import annotations

import copy
import subprocess

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.pixels import apply_color_lut
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from dicom_node.config import OutputRules
from dicom_node.encode import EncodedObject, checked, encode_study
from dicom_node.encode.check import check
from dicom_node.encode.overlay import lookup
from dicom_node.errors import BadObject
from tests import phantom
from tests.harness import dciodvfy_errors, needs_dcmtk

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


@needs_dcmtk
@pytest.mark.peers
def test_dcmtk_shows_the_window_and_the_colours_of_pseudo_colour(objects, tmp_path):
    """Its renderer knows grey presentations and palette images: each half of ours is shown to it as one.

    Which slices, what of them, by which window: as a grey presentation. Then the 256 greys by our palette.
    """
    d, slice_ = copy.deepcopy(named(objects, "PR_colour_HGG")), named(objects, "MR_HGG_0007")
    grey, image = tmp_path / "grey.dcm", tmp_path / "slice.dcm"
    image_of_greys = palette_image(d, slice_)
    for keyword in [e.keyword for e in d if "PaletteColorLookupTable" in e.keyword] + ["ICCProfile"]:
        d.pop(keyword, None)
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = GrayscaleSoftcopyPresentationStateStorage
    d.PresentationLUTShape = "IDENTITY"
    d.save_as(grey, enforce_file_format=True)
    slice_.save_as(image, enforce_file_format=True)
    assert "Test passed" in said("dcmpschk", "-v", grey) and "skipping" not in said("dcmpschk", "-v", grey)
    said("dcmp2pgm", "-p", grey, image, tmp_path / "shown.pgm")
    shown = np.asarray(Image.open(tmp_path / "shown.pgm"))
    assert np.abs(shown.astype(int) - windowed(slice_, d.SoftcopyVOILUTSequence[0])).max() <= 1

    image_of_greys.save_as(tmp_path / "greys.dcm", enforce_file_format=True)
    said("dcmj2pnm", "+opw", tmp_path / "greys.dcm", tmp_path / "greys.ppm")
    colours = np.asarray(Image.open(tmp_path / "greys.ppm")).reshape(256, 3)
    assert np.abs(colours.astype(int) - lookup()).max() <= 1


@needs_dcmtk
@pytest.mark.peers
def test_dcmtk_finds_each_presentation_in_keeping_with_its_dictionary(objects, tmp_path):
    for name in ("PR_colour_HGG", "PR_overlay_HGG"):
        named(objects, name).save_as(tmp_path / "pr.dcm", enforce_file_format=True)
        assert "Test passed" in said("dcmpschk", "-v", tmp_path / "pr.dcm")


def palette_image(state: Dataset, like: Dataset) -> Dataset:
    """The values 0 to 255 as a PALETTE COLOR image by the colours of ``state``."""
    d = Dataset()
    d.file_meta = copy.deepcopy(like.file_meta)
    d.SOPClassUID, d.SOPInstanceUID = like.SOPClassUID, like.SOPInstanceUID
    for element in state:
        if "PaletteColorLookupTable" in element.keyword:
            d.add(element)
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "PALETTE COLOR"
    d.Rows = d.Columns = 16
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 8, 8, 7, 0
    d.PixelData = bytes(range(256))
    return d


def said(tool: str, *arguments: object) -> str:
    """What a tool of DCMTK says, which must end well."""
    command = [f"/usr/bin/{tool}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
