"""Same samples, same header: only what is proven equal is called equal."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from dicom_node import compare as module
from dicom_node.compare import Same, compare
from tests.doors import as_file, compressed, mr_slice


def files(folder: Path, *contents: bytes) -> list[Path]:
    paths = []
    for number, content in enumerate(contents):
        paths.append(folder / f"{number}.dcm")
        paths[-1].write_bytes(content)
    return paths


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_pixels_in_another_transfer_syntax_are_compared_in_a_process_apart(
    tmp_path: Path, syntax: str
) -> None:
    plain, other = as_file(mr_slice()), as_file(compressed(mr_slice(), syntax))
    assert compare(*files(tmp_path, plain, other)) == Same(pixels=True, header=True)
    assert compare(*files(tmp_path, as_file(mr_slice(pixels=1)), other)) == Same(pixels=False, header=False)


def test_a_corrected_header_is_told_from_other_pixels(tmp_path: Path) -> None:
    corrected = as_file(mr_slice(SeriesDescription="tCho"))
    assert compare(*files(tmp_path, as_file(mr_slice()), corrected)) == Same(pixels=True, header=False)


def test_a_decoder_that_needs_too_much_proves_nothing(
    tmp_path: Path,
) -> None:
    """Its process ends; ours goes on."""
    small, large = compressed(mr_slice(), RLELossless), compressed(mr_slice(pixels=1), RLELossless)
    large.Rows = large.Columns = 65535
    large.NumberOfFrames = 60000
    assert compare(*files(tmp_path, as_file(small), as_file(large))) == Same(pixels=False, header=False)


def test_class_6_deflated_files_are_inflated_in_the_process_apart_only(tmp_path: Path) -> None:
    """Within the bounds of intake, and a hundred times their size all the same."""
    contents = []
    for last in (b"\0\0", b"\1\0"):
        ds = mr_slice(size=8192)
        ds.PixelData = bytes(8192 * 8192 * 2 - 2) + last
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        contents.append(as_file(ds))
    paths = files(tmp_path, *contents)
    assert paths[0].stat().st_size < 1024**2
    tracemalloc.start()
    assert compare(*paths) == Same(pixels=False, header=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 1024**2
    assert compare(paths[0], paths[0]) == Same(pixels=True, header=True)


def test_large_files_are_compared_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SMALL", 0)
    content = as_file(mr_slice())
    assert compare(*files(tmp_path, content, content)) == Same(pixels=True, header=True)
