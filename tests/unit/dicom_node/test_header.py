"""The header of a file that may be broken or hostile (the numbers are those of the classes of bad input)."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from io import BytesIO

import pydicom
import pytest
from pydicom import Dataset, Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from dicom_node.arrival import file_meta
from dicom_node.errors import NotDicom
from dicom_node.header import Bounds, read_header, text_of
from tests.doors import as_file, compressed, mr_slice

SMALL = Bounds(nesting=8, elements=1000, free_inflation=1024**2, inflated=32 * 1024**2)
OPEN_SEQUENCE = struct.pack("<HH2sHI", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF)
OPEN_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
CLOSE_ITEM = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
CLOSE_SEQUENCE = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def file_of(data_set: bytes, syntax: str = ExplicitVRLittleEndian) -> bytes:
    return file_meta("1.2.840.10008.5.1.4.1.1.4", "1.2.3", syntax) + data_set


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def with_sequences() -> Dataset:
    """A slice with sequences of every length and depth that real files have."""
    ds = mr_slice()
    inner = Dataset()
    inner.CodeValue = "1"
    outer = Dataset()
    outer.PurposeOfReferenceCodeSequence = Sequence([inner, inner])
    outer["PurposeOfReferenceCodeSequence"].is_undefined_length = True
    ds.ReferencedImageSequence = Sequence([outer, Dataset()])
    ds.add_new((0x0029, 0x0010), "LO", "PRIVATE")
    ds.add_new((0x0029, 0x1001), "SQ", [inner])
    ds.add_new((0x0029, 0x1010), "OB", bytes(100_000))
    return ds


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    "value",
    [b"A-1 ", b" A 1", b"A\0", b"", b"  ", b"A\\B ", b"A\0B ", b"A\nB ", b"\x1b(B", b"M\xfcller ", b"A\t"],
)
def test_an_attribute_is_the_same_text_whether_pydicom_decoded_it_or_not(value: bytes, syntax: str) -> None:
    for number, vr, keyword in ((0x0050, b"SH", "AccessionNumber"), (0x0018, b"UI", "SOPInstanceUID")):
        padded = value + b" " * (len(value) % 2)
        raw = element(8, number, vr, padded)
        if syntax == ImplicitVRLittleEndian:
            raw = struct.pack("<HHI", 8, number, len(padded)) + padded
        header, decoded = read_header(file_of(raw, syntax)), read_header(file_of(raw, syntax))
        decoded.decode()
        _ = decoded[keyword].value
        assert text_of(header, keyword) == text_of(decoded, keyword)


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
    ],
)
def test_what_is_read_is_what_pydicom_reads(syntax: str) -> None:
    ds = with_sequences()
    if syntax in (RLELossless, JPEG2000Lossless):
        ds = compressed(ds, syntax)
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds["PixelData"].value = ds.PixelData
    content = as_file(ds)
    theirs = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
    ours = read_header(content)
    expected = {e.tag for e in theirs if e.VR != "SQ" and len(str(e.value)) < 50_000}
    assert {e.tag for e in ours} == expected
    for tag in expected:
        assert ours[tag].value == theirs[tag].value, tag
    assert ours.file_meta == theirs.file_meta


def test_names_in_other_alphabets_are_decoded() -> None:
    ds = mr_slice(SpecificCharacterSet="ISO_IR 192", PatientID="Ä-1")
    assert read_header(as_file(ds)).PatientID == "Ä-1"


# 7, 8: lengths and VRs that lie, undefined lengths, odd lengths, out of bounds


@pytest.mark.parametrize(
    "data_set",
    [
        element(0x0008, 0x0060, b"CS", b"MR")[:-1],
        struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 65535) + b"MR",
        struct.pack("<HH2sHI", 0x0029, 0x1010, b"OB", 0, 0xFFFFFFFE) + bytes(100),
        struct.pack("<HH2sHI", 0x0029, 0x1010, b"OB", 0, 0xFFFFFFFF) + bytes(100),
        OPEN_SEQUENCE,
        OPEN_SEQUENCE + OPEN_ITEM + element(0x0008, 0x0060, b"CS", b"MR"),
        OPEN_SEQUENCE + element(0x0008, 0x0060, b"CS", b"MR"),
        struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 1 << 30) + bytes(100),
        struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + OPEN_ITEM + bytes(100),
        element(0x0028, 0x0100, b"US", b"\x10\0"),  # pixels that never come
        b"\xff" * 1000,
    ],
)
def test_class_8_lengths_out_of_bounds_are_refused(data_set: bytes) -> None:
    with pytest.raises(NotDicom, match=r"breaks off|broken|items"):
        read_header(file_of(data_set))


def test_class_7_a_wrong_vr_is_no_harm() -> None:
    """Rows as UL instead of US; a VR that does not exist."""
    header = read_header(
        file_of(element(0x0028, 0x0010, b"UL", b"\0\0\1\0") + element(0x0029, 1, b"QQ", b"x"))
    )
    assert header.Rows == 65536


def test_class_8_a_meta_header_that_lies_is_refused() -> None:
    meta = bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 1, b"OB", 0, 0xFFFFFFF0)
    for broken in (meta, meta[:140], b"DICM", b"", bytes(131)):
        with pytest.raises(NotDicom):
            read_header(broken)


# 6: bombs


def deflated(plain: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(plain) + packer.flush()


def test_class_6_a_deflated_bomb_is_refused_and_costs_no_memory() -> None:
    """A few hundred kilobytes that would inflate to 600 MB."""
    bomb = b"".join(deflated_pixels(600 * 1024**2))
    assert len(bomb) < 1024**2
    tracemalloc.start()
    with pytest.raises(NotDicom, match="deflated"):
        read_header(file_of(bomb, DeflatedExplicitVRLittleEndian))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 1024**2


def deflated_pixels(size: int) -> list[bytes]:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, size)
    return [
        packer.compress(start),
        *(packer.compress(bytes(1024**2)) for _ in range(size // 1024**2)),
        packer.flush(),
    ]


def test_class_6_a_bomb_within_a_sequence_that_is_asked_for_is_refused_and_costs_no_memory() -> None:
    tag = struct.pack("<HH2sHI", 0x0040, 0x9096, b"SQ", 0, 600 * 1024**2)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 600 * 1024**2 - 8)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    value = element(0x0009, 0x1001, b"OB", b"")[:-2] + struct.pack("<HI", 0, 590 * 1024**2)
    pieces = [packer.compress(tag + item + value), *(packer.compress(bytes(1024**2)) for _ in range(590))]
    bomb = b"".join([*pieces, packer.flush()])
    tracemalloc.start()
    with pytest.raises(NotDicom, match="deflated"):
        read_header(file_of(bomb, DeflatedExplicitVRLittleEndian), sequences={0x00409096})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 1024**2


def test_an_empty_image_may_deflate_a_thousandfold() -> None:
    ds = mr_slice(size=512)
    ds.PixelData = bytes(512 * 512 * 2)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert read_header(as_file(ds)).Rows == 512


@pytest.mark.parametrize("keep", [0.2, 0.9])
def test_half_a_deflated_data_set_is_refused(keep: float) -> None:
    whole = deflated(element(0x0010, 0x0020, b"LO", b"P1") + element(0x0029, 1, b"LO", bytes(range(200))))
    assert read_header(file_of(whole, DeflatedExplicitVRLittleEndian)).PatientID == "P1"
    with pytest.raises(NotDicom, match="breaks off"):
        read_header(file_of(whole[: int(len(whole) * keep)], DeflatedExplicitVRLittleEndian))
    with pytest.raises(NotDicom, match="inflated"):
        read_header(file_of(b"\xff" * 100, DeflatedExplicitVRLittleEndian))


# 9: nesting, endless sequences, number of elements, time


@pytest.mark.parametrize("depth", [9, 10_000])
def test_class_9_nesting_without_end_is_refused(depth: int) -> None:
    with pytest.raises(NotDicom, match="nested too deep"):
        read_header(file_of((OPEN_SEQUENCE + OPEN_ITEM) * depth), SMALL)


def test_class_9_nesting_by_defined_lengths_is_seen_too() -> None:
    """Where no VR is written, the dictionary tells; the same for a sequence hidden as UN."""
    for head in (b"UN", b""):
        inner = b""
        for _ in range(20):
            inner = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
            tag = struct.pack("<HH", 0x0008, 0x1115)
            inner = tag + (head + b"\0\0" if head else b"") + struct.pack("<I", len(inner)) + inner
        with pytest.raises(NotDicom, match="nested too deep"):
            read_header(file_of(inner, ExplicitVRLittleEndian if head else ImplicitVRLittleEndian), SMALL)


def test_class_9_nesting_behind_the_pixels_is_refused() -> None:
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 2) + b"\0\0"
    private = struct.pack("<HH2sHI", 0x7FE1, 0x1010, b"SQ", 0, 0xFFFFFFFF) + OPEN_ITEM
    with pytest.raises(NotDicom, match="nested too deep"):
        read_header(file_of(pixels + private + (OPEN_SEQUENCE + OPEN_ITEM) * 9), SMALL)


def test_depth_within_the_bounds_is_read() -> None:
    nested = (OPEN_SEQUENCE + OPEN_ITEM) * 8 + (CLOSE_ITEM + CLOSE_SEQUENCE) * 8
    assert read_header(file_of(nested + element(0x0010, 0x0020, b"LO", b"P1")), SMALL).PatientID == "P1"


def test_class_9_elements_without_number_are_refused() -> None:
    with pytest.raises(NotDicom, match="more than 1000 elements"):
        read_header(file_of(element(0x0008, 0x0060, b"CS", b"MR") * 1001), SMALL)
    items = OPEN_SEQUENCE + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 1001
    with pytest.raises(NotDicom, match="more than 1000 elements"):
        read_header(file_of(items + CLOSE_SEQUENCE), SMALL)


def test_class_9_reading_ends_in_time() -> None:
    many = file_of(element(0x0008, 0x0060, b"CS", b"MR") * 2_000_000)
    started = time.monotonic()
    with pytest.raises(NotDicom, match="too long"):
        read_header(many, Bounds(seconds=0.01, elements=10**9))
    assert time.monotonic() - started < 5


def test_attributes_that_would_fill_memory_are_refused() -> None:
    values = b"".join(element(0x0009, n, b"LT", bytes(16_000)) for n in range(0x1000, 0x1400))
    with pytest.raises(NotDicom, match="more than 8 MB"):
        read_header(file_of(values))


# 10: missing and empty


def test_class_10_empty_and_odd_values_are_read_or_refused() -> None:
    odd = element(0x0008, 0x0018, b"UI", b"") + element(0x0010, 0x0010, b"PN", b"=\\^\xff=")
    header = read_header(file_of(odd))
    assert not header.SOPInstanceUID
    assert read_header(file_of(b"")).file_meta.MediaStorageSOPInstanceUID == "1.2.3"


def test_class_10_a_value_of_no_known_kind_is_refused_in_words() -> None:
    """Found by fuzzing: pydicom raises NotImplementedError, and others, where a value is first asked for."""
    meta = file_meta("1.2.840.10008.5.1.4.1.1.4", "1.2.3", ExplicitVRLittleEndian)
    syntax = struct.pack("<HH", 2, 0x0010)
    with pytest.raises(NotDicom, match="TransferSyntaxUID cannot be read"):
        read_header(meta.replace(syntax + b"UI", syntax + b"U\xfd"))
    modality = element(0x0008, 0x0060, b"CS", b"MR")
    header = read_header(file_of(modality + element(0x0010, 0x0020, b"U\x5b", b"P1")))
    assert text_of(header, "AccessionNumber") == ""
    with pytest.raises(NotDicom, match="PatientID cannot be read"):
        text_of(header, "PatientID")


def test_padding_behind_the_pixels_is_no_harm() -> None:
    for padding in (b"\0", bytes(3000), element(0xFFFC, 0xFFFC, b"OB", b"")[:7], b"\xff" * 50):
        assert read_header(as_file(mr_slice()) + padding).Rows == 64


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
@pytest.mark.parametrize("undefined", [True, False])
def test_a_sequence_that_is_asked_for_is_held_as_pydicom_reads_it(syntax, undefined):
    code, mapping = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "mmol/L", "UCUM"
    mapping.MeasurementUnitsCodeSequence = Sequence([code])
    ds = mr_slice(1)
    ds.RealWorldValueMappingSequence = Sequence([mapping])
    ds["RealWorldValueMappingSequence"].is_undefined_length = undefined
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds["PixelData"].VR = "OW"
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    tag = ds["RealWorldValueMappingSequence"].tag
    header = read_header(buffer.getvalue(), sequences={int(tag)})
    assert header.RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "mmol/L"
    assert "RealWorldValueMappingSequence" not in read_header(buffer.getvalue())
    small = Bounds(held_sequence=16)
    assert "RealWorldValueMappingSequence" not in read_header(buffer.getvalue(), small, {int(tag)})
