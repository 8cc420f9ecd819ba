"""The header of an untrusted file, read within bounds: depth, number, size, inflated size and time.

The structure of the elements is walked with a small window over the file; a value is held only if it is
short and stands at the top, or belongs to a sequence that was named, so that nothing a file claims about
itself costs memory.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import BinaryIO

from pydicom import Dataset
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian

from .bytestream import WINDOW, Beyond, CutShort, Window, inflated
from .errors import NotDicom


@dataclass(frozen=True)
class Bounds:
    """What reading one file may cost. Sizes in bytes."""

    nesting: int = 64  # a Structured Report's content tree comes to a dozen
    elements: int = 2_000_000  # 10,000 frames of an enhanced image come to 600,000
    held_value: int = 16 * 1024
    held: int = 8 * 1024**2
    held_sequence: int = 256 * 1024
    inflated: int = 2 * 1024**3
    free_inflation: int = 64 * 1024**2  # an empty image deflates a thousandfold: the ratio counts beyond this
    ratio: int = 100
    seconds: float = 20.0


_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_PLAIN_VRS = frozenset({"CS", "DA", "LO", "SH", "UI"})
_SEQUENCES = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_SPECTROSCOPY_DATA = 0x56000020
_BITS_ALLOCATED = 0x00280100
_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LOOK_AT_CLOCK = 4096  # elements

_CUT = "the data set breaks off before its end: send or copy it again"


def read_header(
    source: bytes | BinaryIO, bounds: Bounds | None = None, sequences: Collection[int] = ()
) -> Dataset:
    """The attributes at the top of a Part 10 file up to its pixels, no long values.

    Of sequences those of the tags in ``sequences`` are held, if they are not long; the others, and what
    follows the pixels, are walked all the same. Raises NotDicom, with what is wrong and never with what it
    says: no DICOM file, broken, cut short, or beyond ``bounds``.
    """
    file = BytesIO(source) if isinstance(source, bytes) else source
    walk = _Walk(file, bounds or Bounds(), frozenset(sequences))
    try:
        return walk.header()
    except CutShort:
        raise NotDicom(_CUT) from None
    except NotDicom:
        raise
    except Exception as e:  # struct and pydicom raise many kinds on broken bytes; all mean the same
        raise NotDicom(
            f"the data set is broken ({type(e).__name__}): ask the sender to export it again"
        ) from e


def text_of(header: Dataset, keyword: str) -> str:
    """An attribute as text, "" if it is absent or empty. Raises NotDicom if it is not what its VR demands."""
    tag, vr = _tag_and_vr(keyword)
    raw = header.get_item(tag) if tag in header else None
    if isinstance(raw, RawDataElement) and raw.VR in (vr, None) and vr in _PLAIN_VRS and raw.value:
        plain = raw.value.rstrip(b"\0 ").decode("latin-1")
        if plain.isascii() and plain.isprintable() and "\\" not in plain:
            return plain.strip()  # what pydicom would say, in a tenth of the time
    try:
        element = header.get(tag)
        value = "" if element is None or element.value is None else str(element.value)
        return value.replace("\0", "\ufffd").strip()  # a NUL is no character of any VR (PS3.5 6.1)
    except Exception as e:  # of whatever kind pydicom raises over an untrusted value
        raise NotDicom(f"{keyword} cannot be read: ask the sender to export it again") from e


@cache
def _tag_and_vr(keyword: str) -> tuple[int, str]:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return tag, dictionary_VR(tag)


class _Walk:
    def __init__(self, file: BinaryIO, bounds: Bounds, wanted: frozenset[int]) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        file.seek(0)
        self._bounds = bounds
        self._until = time.monotonic() + bounds.seconds
        self._window = Window(lambda: file.read(WINDOW), self._jump)
        self._wanted = wanted
        self._found: dict[int, tuple[bytes, int, bool]] = {}  # by tag: value, its length as stated, implicit?
        self._count = 0
        self._held = 0
        self._has_samples = False
        self._order = "<"

    def _jump(self, count: int) -> None:
        if self._file.tell() + count > self._size:
            raise CutShort
        self._file.seek(count, 1)

    def header(self) -> Dataset:
        meta = self._meta()
        syntax = UID(text_of(meta, "TransferSyntaxUID") or ExplicitVRLittleEndian)
        known = syntax.is_transfer_syntax and not syntax.is_private
        if known and syntax.is_deflated:
            b = self._bounds
            self._window = inflated(self._window, b.inflated, b.free_inflation, b.ratio, self._until)
        self._order = "<" if not known or syntax.is_little_endian else ">"
        top: dict[BaseTag, RawDataElement] = {}
        implicit = self._is_implicit(known and syntax.is_implicit_VR, item=False)
        self._elements(top, implicit)
        header = Dataset(top)  # type: ignore[arg-type]  # pydicom's own readers pass raw elements
        header.file_meta = meta
        self._add_sequences(header)
        if _BITS_ALLOCATED in top and not self._has_samples and not _is_private(header):
            raise CutShort  # half an image must not come first: the whole one would be a conflict
        return header

    def _add_sequences(self, header: Dataset) -> None:
        """Read what was walked: nesting and length are known to be within bounds."""
        for tag, (value, stated, implicit) in self._found.items():
            # What cannot be read here says nothing; reading it to a use says what is wrong with it.
            with suppress(Exception):
                items = read_sequence(BytesIO(value), implicit, self._order == "<", stated, "iso8859")
                header[tag] = DataElement(tag, "SQ", items)

    def _meta(self) -> FileMetaDataset:
        """File Meta Information (PS3.10 7.1), explicit VR little endian."""
        window = self._window
        if not window.has(132) or window.bytes[128:132] != b"DICM":
            raise NotDicom("not a DICOM file: the preamble and DICM prefix are missing (PS3.10 7.1)")
        window.at = 132
        raw: dict[BaseTag, RawDataElement] = {}
        while window.has(8) and window.bytes[window.at : window.at + 2] == b"\x02\x00":
            tag, vr, length = self._element(implicit=False)
            if length > self._bounds.held_value or not window.has(length):
                raise CutShort
            raw[BaseTag(tag)] = self._raw(tag, vr, length, implicit=False)
        return FileMetaDataset(raw)  # type: ignore[arg-type]

    def _is_implicit(self, stated: bool, *, item: bool) -> bool:
        """Whether elements have no VR; an item of an explicit data set may be implicit (PS3.5 6.2.2)."""
        if stated and item:
            return True
        window = self._window
        if not window.has(6):
            return stated
        return not all(0x40 < letter < 0x5B for letter in window.bytes[window.at + 4 : window.at + 6])

    def _element(self, implicit: bool) -> tuple[int, bytes, int]:
        """Tag, VR (empty if implicit) and length of the element here; the window then stands at its value."""
        window = self._window
        self._tick()
        data, at = window.bytes, window.at
        if not implicit:
            group, number, vr, length = struct.unpack_from(f"{self._order}HH2sH", data, at)
            if vr in _LONG_VRS and group != 0xFFFE:
                if not window.has(12):
                    raise CutShort
                (length,) = struct.unpack_from(f"{self._order}I", window.bytes, window.at + 8)
                window.at += 12
                return group << 16 | number, vr, length
            if group != 0xFFFE and b"AA" <= vr <= b"ZZ":
                window.at += 8
                return group << 16 | number, vr, length
        group, number, length = struct.unpack_from(f"{self._order}HHI", data, at)
        window.at += 8
        return group << 16 | number, b"", length

    def _tick(self) -> None:
        self._count += 1
        if self._count > self._bounds.elements:
            raise Beyond(f"more than {self._bounds.elements} elements in one data set")
        if self._count % _LOOK_AT_CLOCK == 0 and time.monotonic() > self._until:
            raise Beyond("the data set takes too long to read")

    def _raw(self, tag: int, vr: bytes, length: int, *, implicit: bool) -> RawDataElement:
        window = self._window
        value = window.bytes[window.at : window.at + length]
        window.at += length
        self._held += length
        if self._held > self._bounds.held:
            raise Beyond(f"attributes of more than {self._bounds.held // 1024**2} MB")
        name = vr.decode("ascii", "replace") if vr else None
        return RawDataElement(BaseTag(tag), name, length, value, 0, implicit, self._order == "<")

    def _elements(self, top: dict[BaseTag, RawDataElement], implicit: bool) -> None:
        """Walk every element to the end; hold the short ones at the top that come before the pixels."""
        window = self._window
        behind_pixels = False
        while window.has(8):
            tag, vr, length = self._element(implicit)
            self._has_samples |= tag == _SPECTROSCOPY_DATA
            if behind_pixels:
                if tag >> 16 <= 0x7FE0:
                    return  # ascending no more: padding (PS3.5 7.1)
                self._pass_over(tag, vr, length, implicit, lenient=True)
            elif tag in _PIXELS:
                behind_pixels = self._has_samples = True
                self._pass_over(tag, b"OB", length, implicit)
            elif length <= self._bounds.held_value and not self._opens_sequence(tag, vr, length):
                if not window.has(length):
                    raise CutShort
                top[BaseTag(tag)] = self._raw(tag, vr, length, implicit=not vr)
            else:
                if tag in self._wanted:
                    window.keep(self._bounds.held_sequence)
                self._pass_over(tag, vr, length, implicit)
                if (value := window.kept()) is not None:
                    self._found[tag] = (value, length, implicit or not vr)
        if not behind_pixels and window.bytes[window.at :].strip(b"\0"):
            raise CutShort

    def _pass_over(self, tag: int, vr: bytes, length: int, implicit: bool, lenient: bool = False) -> None:
        try:
            if self._opens_sequence(tag, vr, length):
                self._sequence(length, implicit or not vr)
            elif length == _UNDEFINED:
                self._fragments()
            else:
                self._window.skip(length)
        except Beyond:
            raise
        except (CutShort, NotDicom):
            if not lenient:
                raise
            self._window.skip(len(self._window.bytes) - self._window.at)

    def _fragments(self) -> None:
        """Encapsulated pixels (PS3.5 A.4)."""
        while True:
            tag, length = self._item()
            if tag == _END_OF_SEQUENCE:
                return
            if tag != _ITEM or length == _UNDEFINED:
                raise NotDicom("an element of undefined length is not made of items: export it again")
            self._window.skip(length)

    def _item(self) -> tuple[int, int]:
        window = self._window
        if not window.has(8):
            raise CutShort
        self._tick()
        group, number, length = struct.unpack_from(f"{self._order}HHI", window.bytes, window.at)
        window.at += 8
        return group << 16 | number, length

    def _sequence(self, length: int, implicit: bool) -> None:
        """Walk a sequence to its end, without recursion: (inside an item?, where it ends, implicit?)."""
        window = self._window
        open_ = [(False, self._end(length), implicit)]
        while open_:
            if len(open_) > 2 * self._bounds.nesting:
                raise Beyond(f"sequences are nested too deep: more than {self._bounds.nesting} levels")
            in_item, end, implicit = open_[-1]
            if end is not None and window.position >= end:
                open_.pop()
                continue
            if not in_item:
                tag, length = self._item()
                if tag == _END_OF_SEQUENCE:
                    open_.pop()
                elif tag == _ITEM:
                    open_.append((True, self._end(length), self._is_implicit(implicit, item=True)))
                else:
                    raise NotDicom("a sequence is not made of items: ask the sender to export it again")
                continue
            if not window.has(8):
                raise CutShort
            tag, vr, length = self._element(implicit)
            if tag == _END_OF_ITEM:
                open_.pop()
            elif self._opens_sequence(tag, vr, length):
                open_.append((False, self._end(length), implicit or not vr))
            elif length == _UNDEFINED:
                self._fragments()
            else:
                window.skip(length)

    def _opens_sequence(self, tag: int, vr: bytes, length: int) -> bool:
        """As pydicom takes it: by VR; UN or no VR, by dictionary, undefined length or a first item."""
        if vr == b"SQ":
            return True
        if vr and vr != b"UN":
            return False
        if length == _UNDEFINED:
            return True
        if tag not in _SEQUENCES:
            return False
        window = self._window
        if length < 8 or not window.has(4):
            return False
        group, number = struct.unpack_from(f"{self._order}HH", window.bytes, window.at)
        return bool(group << 16 | number == _ITEM)

    def _end(self, length: int) -> int | None:
        return None if length == _UNDEFINED else self._window.position + length


def _is_private(header: Dataset) -> bool:
    uid = UID(text_of(header, "SOPClassUID"))
    return uid != "" and uid.is_private
