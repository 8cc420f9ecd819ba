"""Whether two files of one SOP Instance UID hold the same samples, and the same header.

Compressed, deflated or large pixels are decoded in a child process with bounded memory and time: decoders are
C code that has not seen this file before, and what they make of it may be of any size.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID

# pydicom warns of odd values by quoting them: those may be a patient's name or date of birth.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

# Elements that carry an instance's samples, in the order they are looked for.
_SAMPLES = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "SpectroscopyData")
_CSA_SAMPLES = 0x7FE11010

_SMALL = 64 * 1024**2  # bytes of both files: read where we are, if nothing needs decoding
_MEMORY = 4 * 1024**3  # of the child
_SECONDS = 120


@dataclass(frozen=True)
class Same:
    """What is proven equal."""

    pixels: bool
    header: bool


def compare(one: Path, other: Path) -> Same:
    """Never raises over what the files hold: what cannot be proven equal is not called equal."""
    if one.stat().st_size + other.stat().st_size <= _SMALL and not (_needs_decoder(one, other)):
        return _compare(one, other)
    child = subprocess.run(
        [sys.executable, "-m", "dicom_node.compare", str(one), str(other)],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # tracebacks may quote a data set
        text=True,
        check=False,
    )
    words = child.stdout.split()
    return Same("pixels" in words, "header" in words)


def _needs_decoder(*paths: Path) -> bool:
    return any(_is_packed(p) for p in paths)


def _is_packed(path: Path) -> bool:
    """Told by the meta information alone: to read the header of a deflated file is to inflate all of it."""
    syntax = UID(str(read_file_meta_info(path).get("TransferSyntaxUID", "")))
    return syntax.is_encapsulated or syntax.is_deflated


def _compare(one: Path, other: Path) -> Same:
    try:
        a, b = _read(one), _read(other)
        pixels = _samples(a) == _samples(b)
        for dataset in (a, b):
            for keyword in (*_SAMPLES, "LossyImageCompression"):
                if keyword in dataset:
                    del dataset[keyword]
        return Same(pixels, pixels and bool(a == b))
    except Exception:  # whatever pydicom raises over an untrusted value
        return Same(False, False)


def _read(path: Path) -> Dataset:
    return pydicom.dcmread(path)


def _syntax(dataset: Dataset) -> str:
    return str(dataset.file_meta.get("TransferSyntaxUID", ""))


def _samples(dataset: Dataset) -> bytes:
    """An instance's samples as decoded values, whatever the transfer syntax; empty if it has none.

    Samples that cannot be decoded are compared as stored, with their transfer syntax.
    """
    if "PixelData" in dataset:
        try:
            pixels = np.ascontiguousarray(dataset.pixel_array)
        except Exception:  # no decoder, or broken: only equal bytes prove equal pixels
            return _syntax(dataset).encode() + bytes(dataset.PixelData)
        return (
            f"{pixels.dtype.str[1:]}{pixels.shape}".encode()
            + pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
        )
    for tag in (*_SAMPLES[1:], _CSA_SAMPLES):
        if tag in dataset:
            little = UID(dataset.file_meta.TransferSyntaxUID).is_little_endian
            value = dataset[tag].value
            stored = value if isinstance(value, bytes) else np.asarray(value, dtype="<f8").tobytes()
            return (b"" if little else b"big") + stored
    return b""


def main(one: str, other: str) -> None:
    """The child: prints what is proven equal, within its limits or not at all."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    same = _compare(Path(one), Path(other))
    print("pixels" if same.pixels else "", "header" if same.header else "")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
