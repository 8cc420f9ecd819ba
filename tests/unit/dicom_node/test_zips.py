"""Zip archives of DICOM files: taken like a folder, within bounds."""

from __future__ import annotations

import contextlib
import json
import struct
import time
import zipfile
from pathlib import Path

import pytest

from dicom_node.config import IntakeRules, WatchRules
from dicom_node.errors import UnsuitableInput
from dicom_node.process import opened
from dicom_node.study import State
from dicom_node.watch import Watcher
from dicom_node.zips import Bounds, unpack
from tests.doors import as_file, mr_slice, open_intake

BOUNDS = Bounds.of(IntakeRules())
HOSTILE = (
    "../../escaped.dcm",
    "/absolute.dcm",
    "a\\..\\..\\b.dcm",
    "dir/IM1",
    "._dir",
    "README.txt",
    "x/.hidden",
)


def pack(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as z:
        for name, content in members.items():
            z.writestr(name, content)
    return path


def slices(*names: str) -> dict[str, bytes]:
    return {name: as_file(mr_slice(n)) for n, name in enumerate(names, start=1)}


@pytest.fixture
def watched(tmp_path):
    intake = open_intake(tmp_path)
    return Watcher(WatchRules(folder=tmp_path / "inbox", scan_s=0.01), intake, intake.store), intake


def scans(watcher: Watcher) -> None:
    for _ in range(2):
        watcher.scan()
        time.sleep(0.02)
    watcher.scan()


def test_an_archive_dropped_alone_or_in_a_folder_is_taken_as_a_case(watched, tmp_path):
    watcher, intake = watched
    pack(tmp_path / "inbox" / "S1.zip", slices("DICOM/IM1", "DICOM/IM2"))
    scans(watcher)
    (found,) = intake.store.revisions_in(State.QUEUED)
    assert len(intake.store.members(found.key)) == 2
    assert (tmp_path / "inbox" / "processing" / "S1" / "S1.zip").is_file()
    with opened(tmp_path / "inbox" / "processing" / "S1", IntakeRules()) as case:
        assert len(case.instances) == 2
    with opened(tmp_path / "inbox" / "processing" / "S1" / "S1.zip", IntakeRules()) as case:
        assert all(p.is_file() for p in case.instances.values())


def test_an_archive_that_is_none_ends_in_failed_with_the_reason(watched, tmp_path):
    watcher, _ = watched
    (tmp_path / "inbox" / "S1.zip").write_bytes(b"PK but no archive")
    scans(watcher)
    report = json.loads((tmp_path / "inbox" / "failed" / "S1" / "report.json").read_text())
    assert "S1.zip is broken, or no zip archive" in report["reason"]


def test_an_archive_left_by_a_killed_watcher_is_taken(watched, tmp_path):
    watcher, intake = watched
    (tmp_path / "inbox" / ".taking-S1").mkdir()
    pack(tmp_path / "inbox" / ".taking-S1" / "S1.zip", slices("IM1"))
    watcher.scan()
    assert (tmp_path / "inbox" / "processing" / "S1").is_dir()
    assert len(intake.store.revisions_in(State.QUEUED)) == 1


def test_class_1_names_in_a_zip_archive_never_become_paths(tmp_path):
    pack(tmp_path / "a.zip", dict.fromkeys(HOSTILE, b"x"))
    into = tmp_path / "deep" / "er"
    into.mkdir(parents=True)
    assert unpack(tmp_path / "a.zip", into, BOUNDS) == 4
    assert sorted(p.name for p in into.iterdir()) == [f"{n:06d}" for n in range(1, 5)]
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file() and p.parent != into) == ["a.zip"]


@pytest.mark.parametrize(
    ("bounds", "method", "words"),
    [
        (Bounds(2, 10**9, 10**9, 100), zipfile.ZIP_DEFLATED, "3 members, more than 2"),
        (Bounds(9, 250, 10**9, 100), zipfile.ZIP_DEFLATED, "unpacks to more than"),
        (Bounds(9, 10**9, 99, 100), zipfile.ZIP_DEFLATED, "unpacks to more than"),
        (BOUNDS, zipfile.ZIP_LZMA, "another method than deflate"),
    ],
)
def test_class_6_a_zip_archive_beyond_its_bounds_is_refused(bounds, method, words, tmp_path):
    pack(tmp_path / "a.zip", {str(n): b"x" * 100 for n in range(3)}, method)
    with pytest.raises(UnsuitableInput, match=words):
        unpack(tmp_path / "a.zip", tmp_path, bounds)


def test_class_6_a_zip_archive_that_lies_about_its_sizes_is_cut(tmp_path):
    """The directory says 10 bytes each; 100 MB of zeros come of it, and a directory of 4 GB is not read."""
    path = pack(tmp_path / "bomb.zip", {"IM1": bytes(100 * 1024**2)})
    with pytest.raises(UnsuitableInput, match="more than 100 times its size"):
        unpack(path, tmp_path, BOUNDS)
    lying = path.read_bytes().replace(struct.pack("<I", 100 * 1024**2), struct.pack("<I", 10))
    path.write_bytes(lying)
    (tmp_path / "into").mkdir()
    with contextlib.suppress(UnsuitableInput):
        unpack(path, tmp_path / "into", BOUNDS)
    assert sum(p.stat().st_size for p in (tmp_path / "into").iterdir()) <= 65 * 1024**2
    end = lying.rfind(b"PK\5\6")
    huge = lying[: end + 12] + struct.pack("<I", 0xFFFFFFF0) + lying[end + 16 :]
    path.write_bytes(huge + bytes(1024))
    with pytest.raises(UnsuitableInput):
        unpack(path, tmp_path, Bounds(1, 10**9, 10**9, 100))


def test_an_encrypted_archive_is_refused_saying_so(tmp_path):
    path = pack(tmp_path / "a.zip", {"IM1": b"x" * 50})
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(UnsuitableInput, match="encrypted"):
        unpack(path, tmp_path, BOUNDS)
