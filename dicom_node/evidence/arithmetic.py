"""What the headers of one series say about how much of it there should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dicom_node.facts import Facts, number_in, text_in

_MOST_NAMED = 5


@dataclass(frozen=True)
class Tally:
    """``missing`` in words: a strong sign. ``weak``: a hint only. ``whole``: proven all here."""

    missing: tuple[str, ...] = ()
    weak: str = ""
    whole: bool = False


def tally(series: Sequence[Facts]) -> Tally:
    """Count one series against what its own headers announce.

    Number of Series Related Instances (0020,1209), Images in Acquisition (0020,1002), Number of Temporal
    Positions (0020,0105), Stack ID and In-Stack Position Number (0020,9056, 0020,9057), concatenations
    (0020,9161–9163), Number of Frames (0028,0008); gaps in Instance Number (0020,0013) are a weak sign.
    """
    said = [
        check(series) for check in (_related, _acquisitions, _temporal_positions, _stacks, _concatenations)
    ]
    missing = tuple(words for found in said if found is not None for words in found)
    proven = any(found == [] for found in said) or _multi_frame(series)
    return Tally(missing, _gaps(series), proven and not missing)


# Each check: None if the headers announce nothing, else what is missing in words ([]: nothing is).


def _related(series: Sequence[Facts]) -> list[str] | None:
    expected = _largest(series, "NumberOfSeriesRelatedInstances")
    return None if expected is None else _short_of(len(series), expected, "instances")


def _acquisitions(series: Sequence[Facts]) -> list[str] | None:
    """An acquisition may also fill several series, each with all its images; frames count as images."""
    expected: dict[int | None, int] = {}
    here: Counter[int | None] = Counter()
    for facts in series:
        number = number_in(facts, "AcquisitionNumber")
        here[number] += number_in(facts, "NumberOfFrames") or 1
        images = number_in(facts, "ImagesInAcquisition")
        if images:
            expected[number] = max(images, expected.get(number, 0))
    if not expected:
        return None
    return [
        words
        for number, images in expected.items()
        for words in _short_of(
            here[number], images, "images" + (f" of acquisition {number}" if number else "")
        )
    ]


def _temporal_positions(series: Sequence[Facts]) -> list[str] | None:
    expected = _largest(series, "NumberOfTemporalPositions")
    if expected is None or expected < 2 or any(number_in(f, "NumberOfFrames") for f in series):
        return None
    images = Counter(number_in(f, "TemporalPositionIdentifier") for f in series)
    if None in images:
        rest = len(series) % expected
        return [f"images of {expected - rest} of {expected} temporal positions"] if rest else []
    if len(images) < expected:
        return [f"{expected - len(images)} of {expected} temporal positions"]
    most = max(images.values())
    short = sum(most - n for n in images.values())
    return [f"{short} images in some of {expected} temporal positions"] if short else []


def _stacks(series: Sequence[Facts]) -> list[str] | None:
    """Positions count from 1; how many there are nobody states, so only a gap tells."""
    places: dict[str, set[int]] = {}
    for facts in series:
        for stack, positions in dict(facts.get("stacks", {})).items():
            places.setdefault(stack, set()).update(positions)
        position = number_in(facts, "InStackPositionNumber")
        if position is not None:
            places.setdefault(text_in(facts, "StackID"), set()).add(position)
    gaps = {stack: _absent(found, 1) for stack, found in places.items()}
    found = [f"{_listed('position', gap)} of stack {stack or '1'}" for stack, gap in gaps.items() if gap]
    return found or None


def _concatenations(series: Sequence[Facts]) -> list[str] | None:
    parts: dict[str, set[int]] = {}
    totals: dict[str, int] = {}
    for facts in series:
        uid, number = text_in(facts, "ConcatenationUID"), number_in(facts, "InConcatenationNumber")
        if uid and number is not None:
            parts.setdefault(uid, set()).add(number)
            totals[uid] = max(totals.get(uid, 0), number_in(facts, "InConcatenationTotalNumber") or 0)
    if not parts:
        return None
    found = []
    for uid, numbers in parts.items():
        absent = _absent(numbers, 1, totals[uid])
        if absent:
            found.append(f"{_listed('part', absent)} of a concatenation of {totals[uid] or 'unknown length'}")
    return found if found or all(totals.values()) else None


def _multi_frame(series: Sequence[Facts]) -> bool:
    """Each instance holds all its frames and is part of nothing larger."""
    return all((number_in(f, "NumberOfFrames") or 0) > 1 and "ConcatenationUID" not in f for f in series)


def _gaps(series: Sequence[Facts]) -> str:
    numbers = {n for f in series if (n := number_in(f, "InstanceNumber")) is not None}
    absent = _absent(numbers, min(numbers)) if numbers else []
    return _listed("Instance Number", absent) if absent else ""


def _largest(series: Iterable[Facts], keyword: str) -> int | None:
    return max((n for f in series if (n := number_in(f, keyword)) is not None), default=None)


def _short_of(here: int, expected: int, what: str) -> list[str]:
    return [f"{expected - here} of {expected} {what}"] if here < expected else []


def _absent(numbers: set[int], first: int, last: int = 0) -> list[int]:
    """What lacks between ``first`` and the last; a wild number does not make a list of a million."""
    last = max(last, *numbers) if numbers else last
    if last - first > 100_000:
        return []
    return [n for n in range(first, last + 1) if n not in numbers]


def _listed(what: str, numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:_MOST_NAMED]))
    more = f" and {len(numbers) - _MOST_NAMED} more" if len(numbers) > _MOST_NAMED else ""
    return f"{what}{'s' if len(numbers) > 1 else ''} {shown}{more}"
