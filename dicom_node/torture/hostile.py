"""Input that means harm: data sets that must be refused, and mutations of good bytes, all from a seed."""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import dataclass
from functools import cache

from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, MRImageStorage

from . import wire
from .studies import Instance

INTERESTING = (0, 1, 2, 6, 8, 0x7F, 0x80, 0xFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PIECES = (
    b"SQ\0\0\xff\xff\xff\xff",
    b"UN\0\0\xff\xff\xff\xff",
    b"OB\0\0\xff\xff\xff\xff",
    struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF),
    struct.pack("<HHI", 0xFFFE, 0xE00D, 0),
    struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
    struct.pack("<HH", 0x7FE0, 0x0010),
    struct.pack("<HH", 0x0008, 0x1115),
)
CONTEXTS = (
    (str(MRImageStorage), str(ExplicitVRLittleEndian)),
    (str(MRImageStorage), str(DeflatedExplicitVRLittleEndian)),
)


@dataclass(frozen=True)
class Attack:
    """A C-STORE that must not be answered with Success."""

    name: str
    data_set: bytes
    sop_class: str
    sop_uid: str
    context: int = 1


def attacks(good: Instance) -> list[Attack]:
    """Each is ``good`` with one thing wrong, or nothing good at all."""
    data, sop_class, uid = good.data_set, good.sop_class, good.sop_uid
    return [
        Attack("deflate bomb", bomb(), sop_class, uid, context=3),
        Attack("nesting of 10 000 levels", nesting(10_000), sop_class, uid),
        Attack("truncated data set", data[:-20], sop_class, uid),
        Attack("noise", b"\xff" * 5000, sop_class, uid),
        Attack("no data set", b"", sop_class, uid),
        Attack("a path for a UID", data, sop_class, "../../../evil"),
        Attack("a UID of 80 digits", data, sop_class, "1." + "2" * 78),
        Attack("another UID than the data set's", data, sop_class, "1.2.3"),
        Attack("another class than the context's", data, str(CTImageStorage), uid),
    ]


@cache
def bomb(inflated: int = 600 * 1024**2) -> bytes:
    """A deflated data set of ``inflated`` bytes of zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, inflated)
    whole, rest = divmod(inflated, 1024**2)
    pieces = [packer.compress(start), *(packer.compress(bytes(1024**2)) for _ in range(whole))]
    return b"".join([*pieces, packer.compress(bytes(rest)), packer.flush()])


def nesting(levels: int) -> bytes:
    """Sequences within sequences, none of them closed."""
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF)
    return (sequence + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * levels


def messages() -> list[bytes]:
    """PDUs as an association carries them: what is to be mutated."""
    echo = wire.command(wire.C_ECHO_RQ, sop_class=wire.VERIFICATION, data_set=wire.NO_DATA_SET)
    store = wire.store(bytes(300), MRImageStorage, "1.2.3", longest=128)
    action = wire.command(0x0130, sop_class=wire.VERIFICATION, sop_instance="1.2.3")
    find = wire.command(0x0020, sop_class=wire.VERIFICATION)
    return [
        store,
        wire.p_data(echo, command=True),
        store + wire.p_data(echo, command=True),
        wire.p_data(action, command=True) + wire.p_data(bytes(20)),
        wire.p_data(find, command=True) + wire.p_data(bytes(20), last=False) + wire.p_data(b"x"),
        wire.p_data(echo[:10], command=True, last=False) + wire.p_data(echo[10:], command=True),
    ]


def mutated(seed: bytes, dice: random.Random) -> bytes:
    """``seed`` with some of the things that break parsers."""
    data = bytearray(seed)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(7):
            case 0:
                data[at : at + 1] = bytes((dice.randrange(256),))
            case 1:
                size = dice.choice((1, 2, 4))
                value = dice.choice(INTERESTING) % (1 << (8 * size))
                data[at : at + size] = value.to_bytes(size, dice.choice(("little", "big")))
            case 2:
                del data[at:]
            case 3:
                del data[at : at + dice.randint(1, 40)]
            case 4:
                start = dice.randrange(len(data) + 1)
                data[at:at] = data[start : start + dice.randint(1, 200)] * dice.randint(1, 8)
            case 5:
                data[at:at] = dice.choice(PIECES) * dice.choice((1, 1, 3, 300))
            case 6:
                data[at : at + 8] = dice.choice(PIECES)
        if not data:
            data = bytearray(b"\0")
    return bytes(data)
