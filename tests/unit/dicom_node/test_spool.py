"""Files that survive a power cut."""

from __future__ import annotations

import errno
import hashlib
import shutil
from pathlib import Path

import pytest

from dicom_node import spool as module
from dicom_node.errors import OutOfSpace
from dicom_node.spool import Spool, fsync_tree, sha256_of


def files(spool: Spool) -> list[Path]:
    return sorted(p for p in spool.root.rglob("*") if p.is_file())


def test_what_is_kept_is_named_by_its_content_and_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    kept = spool.keep(b"abc")
    assert kept.sha256 == hashlib.sha256(b"abc").hexdigest() == sha256_of(spool.path(kept.path))
    assert kept.size == 3
    assert spool.path(kept.path).read_bytes() == b"abc"
    assert kept.path.endswith(f"{kept.sha256}.dcm")


def test_the_same_content_twice_is_one_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.keep(b"abc") == spool.keep(b"abc")
    assert len(files(spool)) == 1


def test_nobody_else_on_the_machine_may_read_what_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.path(spool.keep(b"abc").path).stat().st_mode & 0o077 == 0


def test_file_and_folder_are_on_disk_before_keep_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this order: bytes, name, and the folder for the name. The folders themselves are there before."""
    happened: list[str] = []
    spool = Spool(tmp_path)
    real_fsync, real_folder, real_rename = module.os.fsync, module.fsync_folder, Path.rename

    def fsync(fd: int) -> None:
        happened.append("fsync")
        real_fsync(fd)

    def folder(path: Path) -> None:
        happened.append(f"folder {path.name}")
        real_folder(path)

    def rename(self: Path, target: Path) -> Path:
        happened.append("rename")
        return real_rename(self, target)

    monkeypatch.setattr(module.os, "fsync", fsync)
    monkeypatch.setattr(module, "fsync_folder", folder)
    monkeypatch.setattr(Path, "rename", rename)
    kept = spool.keep(b"abc")
    shard = f"folder {kept.sha256[:2]}"
    assert [*dict.fromkeys(happened)] == ["fsync", "rename", shard]
    happened.clear()
    assert spool.keep(b"abc") == kept
    assert shard in happened, "another process may have renamed it just now"


def test_what_arrives_piece_by_piece_is_the_same_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with spool.arriving() as arriving:
        for piece in (b"a", b"", bytearray(b"bc")):
            arriving.write(piece)
        assert files(spool) == [arriving.path]
        assert arriving.path.stat().st_mode & 0o077 == 0
        kept = spool.keep(arriving)
    assert kept == spool.keep(b"abc")
    assert files(spool) == [spool.path(kept.path)]


def test_of_what_arrived_and_was_not_kept_nothing_is_left(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(ZeroDivisionError), spool.arriving() as arriving:
        arriving.write(b"half")
        raise ZeroDivisionError
    assert files(spool) == []
    arriving.close()


def test_below_the_low_water_mark_nothing_is_taken(tmp_path: Path) -> None:
    free_mb = shutil.disk_usage(tmp_path).free // 1024**2
    Spool(tmp_path, low_water_mb=0).require_space()
    with pytest.raises(OutOfSpace, match="low_water_mb"):
        Spool(tmp_path, low_water_mb=free_mb + 10_000).require_space()


def test_a_full_disk_is_said_so_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OutOfSpace):
        spool.keep(b"abc")
    assert files(spool) == []


def test_another_io_error_is_not_taken_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module.os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        spool.keep(b"abc")
    assert files(spool) == []


def test_a_writer_that_fails_leaves_no_file_under_the_name(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    target = spool.root / "out" / "x.dcm"
    with pytest.raises(ZeroDivisionError), spool.durable(target) as f:
        f.write(b"half")
        raise ZeroDivisionError
    assert files(spool) == []


def test_an_attempt_starts_in_an_empty_folder(tmp_path: Path) -> None:
    """What a killed worker left there is never mixed with the new results."""
    spool = Spool(tmp_path)
    folder = spool.result_folder("case", 1, 1)
    (folder / "half.dcm").write_bytes(b"half")
    again = spool.result_folder("case", 1, 1)
    assert again == folder
    assert list(again.iterdir()) == []
    assert spool.relative(again) == "out/case/1-1"


def test_a_worker_that_comes_late_leaves_what_another_made(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    made = spool.result_folder("case", 1, 1, "a") / "whole.dcm"
    made.write_bytes(b"whole")
    late = spool.result_folder("case", 1, 1, "b")
    assert made.read_bytes() == b"whole" and late.name == "1-1.b"


def test_a_tree_is_made_durable_whatever_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "f").write_bytes(b"1")
    fsync_tree(tmp_path / "a")
    assert (tmp_path / "a" / "b" / "f").read_bytes() == b"1"
