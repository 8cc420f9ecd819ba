"""Two series for one quantity: which is taken, and how both say so."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydicom import Dataset

from dicom_node.series import IdentifiedSeries, Part, Role, text_of

Ranked = tuple[Part, tuple[bool, ...]]
_ANATOMY = (Role.T1, Role.FLAIR)


@dataclass(frozen=True)
class Candidate:
    """A series with a role before the choice. ``parts`` with their rank; a higher rank is preferred."""

    first: Dataset
    role: Role
    reason: str
    parts: tuple[Ranked, ...] = ()

    @property
    def name(self) -> str:
        """How people call a series: its number, and its description in quotes."""
        number = text_of(self.first, "SeriesNumber")
        description = text_of(self.first, "SeriesDescription")
        known = [f"series {number}" if number else "", f"“{description}”" if description else ""]
        return " ".join(k for k in known if k) or f"series …{text_of(self.first, 'SeriesInstanceUID')[-12:]}"

    @property
    def age(self) -> tuple[str, int, str]:
        """Latest sorts last: acquisition time, then series number, then UID so that order never matters."""
        h = self.first
        when = text_of(h, "AcquisitionDateTime") or next(
            (text_of(h, f"{w}Date") + text_of(h, f"{w}Time") for w in _CLOCKS if text_of(h, f"{w}Date")), ""
        )
        number = text_of(h, "SeriesNumber")
        return (when, int(number) if number.isdigit() else -1, text_of(h, "SeriesInstanceUID"))

    def with_total_creatine(self) -> Candidate:
        """The same with "Cr" read as tCr, and a reason that says so."""
        parts = tuple(
            (replace(p, metabolite=_tcr(p.metabolite), of=_tcr(p.of)), rank) for p, rank in self.parts
        )
        if parts == self.parts:
            return self
        return replace(self, parts=parts, reason=f"{self.reason}; Cr is taken as tCr: there is no PCr map")

    def identified(self) -> IdentifiedSeries:
        h = self.first
        return IdentifiedSeries(
            uid=text_of(h, "SeriesInstanceUID"),
            study_uid=text_of(h, "StudyInstanceUID"),
            description=text_of(h, "SeriesDescription"),
            role=self.role,
            reason=self.reason,
            parts=tuple(part for part, _ in self.parts),
        )


_CLOCKS = ("Acquisition", "Content", "Series", "Study")


def choose(candidates: list[Candidate]) -> list[Candidate]:
    """Keep one part per quantity and one series per contrast: by rank, then the latest.

    T1 and FLAIR without contrast agent come first, then those in the maps' Frame of Reference.
    """
    frames = {text_of(c.first, "FrameOfReferenceUID") for c in candidates if c.role is Role.METABOLITE_MAP}
    taken: dict[object, tuple[int, int]] = {}
    for i, c in enumerate(candidates):
        for j, (part, _) in enumerate(c.parts):
            key = _key(c, part)
            before = taken.get(key)
            if before is None or _better(candidates, frames, (i, j), before):
                taken[key] = (i, j)
    return [_settled(candidates, taken, i) for i in range(len(candidates))]


def _key(c: Candidate, part: Part) -> object:
    return c.role if c.role in _ANATOMY else (part.metabolite, part.quality, part.of)


def _order(c: Candidate, frames: set[str], rank: tuple[bool, ...]) -> tuple[object, ...]:
    if c.role in _ANATOMY:
        here = text_of(c.first, "FrameOfReferenceUID") in frames
        return (rank[0], here, *rank[1:], c.age)
    return (*rank, c.age)


def _better(candidates: list[Candidate], frames: set[str], a: tuple[int, int], b: tuple[int, int]) -> bool:
    one, other = candidates[a[0]], candidates[b[0]]
    mine = _order(one, frames, one.parts[a[1]][1])
    theirs = _order(other, frames, other.parts[b[1]][1])
    return mine > theirs


def _settled(candidates: list[Candidate], taken: dict[object, tuple[int, int]], i: int) -> Candidate:
    c = candidates[i]
    if not c.parts:
        return c
    kept, notes = [], []
    for j, ranked in enumerate(c.parts):
        key = _key(c, ranked[0])
        winner = taken[key]
        what = _called(c, ranked[0])
        if winner == (i, j):
            kept.append(ranked)
            others = [
                o.name
                for k, o in enumerate(candidates)
                if k != i and any(_key(o, p) == key for p, _ in o.parts)
            ]
            if others:
                how = _how(c, [o for o in candidates if o.name in others])
                notes.append(f"{what} taken from here and not from {', '.join(others)} ({how})")
        else:
            better = candidates[winner[0]]
            notes.append(f"{what} is taken from {better.name} instead ({_how(better, [c])})")
    if c.role in _ANATOMY and kept and "contrast-enhanced" in c.reason:
        notes.append("there is none without contrast agent")
    role = c.role if kept else Role.OTHER
    return replace(c, role=role, parts=tuple(kept), reason="; ".join([c.reason, *notes]))


def _how(winner: Candidate, losers: list[Candidate]) -> str:
    ranks = [rank for o in losers for _, rank in o.parts]
    if winner.role in _ANATOMY and any(rank[0] < winner.parts[0][1][0] for rank in ranks):
        return "without contrast agent"
    if any(rank < winner.parts[0][1] for rank in ranks):
        return "original image" if winner.role in _ANATOMY else "preferred kind of map"
    if winner.role in _ANATOMY and any(
        text_of(o.first, "FrameOfReferenceUID") != text_of(winner.first, "FrameOfReferenceUID")
        for o in losers
    ):
        return "in the Frame of Reference of the maps, or later"
    return "the latest"


def _called(c: Candidate, part: Part) -> str:
    if c.role in _ANATOMY:
        return c.role.value.upper()
    quality = {"crlb": "CRLB", "snr": "SNR", "linewidth": "linewidth", None: ""}[part.quality]
    return " of ".join(w for w in (quality, part.metabolite or part.of or "") if w)


def _tcr(name: str | None) -> str | None:
    return "tCr" if name == "Cr" else name
