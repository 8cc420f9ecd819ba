"""The window over an untrusted file: what it keeps of what it passed, however the bytes come."""

from __future__ import annotations

import random

import pytest

from dicom_node.bytestream import CutShort, Window

FILE = bytes(range(256)) * 40


def opened(dice: random.Random, jumps: bool) -> Window:
    """A window over FILE that gets it in pieces of any size."""
    at = 0

    def pull() -> bytes:
        nonlocal at
        start, at = at, min(at + dice.randint(1, 700), len(FILE))
        return FILE[start:at]

    def jump(count: int) -> None:
        nonlocal at
        if at + count > len(FILE):
            raise CutShort
        at += count

    return Window(pull, jump if jumps else None)


@pytest.mark.parametrize("jumps", [True, False])
@pytest.mark.parametrize("seed", range(50))
def test_what_is_kept_is_what_was_passed(seed: int, jumps: bool) -> None:
    dice = random.Random(seed)
    window = opened(dice, jumps)
    for _ in range(6):
        start, limit = window.position, dice.randint(1, 1500)
        window.keep(limit)
        for _ in range(dice.randint(0, 5)):
            count = dice.randint(0, 500)
            if window.has(dice.randint(0, 40)) and window.position + count <= len(FILE):
                window.skip(count)
        passed = FILE[start : window.position]
        assert window.kept() == (passed if len(passed) <= limit else None)
        assert not window.has(1) or window.bytes[window.at] == FILE[window.position]


@pytest.mark.parametrize("jumps", [True, False])
@pytest.mark.parametrize("keeping", [True, False])
def test_to_pass_beyond_the_end_is_seen(jumps: bool, keeping: bool) -> None:
    window = opened(random.Random(0), jumps)
    if keeping:
        window.keep(len(FILE) * 2)
    window.skip(len(FILE) - 1)
    with pytest.raises(CutShort):
        window.skip(2)
