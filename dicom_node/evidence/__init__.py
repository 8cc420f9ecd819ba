"""Is a case complete, because of what, and if not: what is awaited, until when. Pure.

In order of weight: what the scanner's performed procedure steps name; what the headers announce; what an
archive counts; what the recipe needs; a quiet period last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from dicom_node.config import GatherRules
from dicom_node.facts import Facts, number_in, text_in

from .arithmetic import Tally, tally

__all__ = [
    "STREAMING_S",
    "Count",
    "Counts",
    "Evidence",
    "Here",
    "Needs",
    "Step",
    "StepStatus",
    "Tally",
    "Verdict",
    "judge",
    "tally",
]


# While instances stream in, what they are is not asked: that costs more than all else here.
STREAMING_S = 2.0


@dataclass(frozen=True)
class Here:
    """An instance that has come."""

    sop_uid: str
    series_uid: str
    study_uid: str
    facts: Facts


class StepStatus(StrEnum):
    """Performed Procedure Step Status (0040,0252), PS3.3 C.4.14."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


@dataclass(frozen=True)
class Step:
    """A Modality Performed Procedure Step: ``named`` are the instances it references, by series.

    ``since``: UTC seconds of its last message. ``reason``: why it was discontinued, if it says so.
    """

    sop_uid: str
    status: StepStatus
    since: float
    named: Mapping[str, frozenset[str]] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Count:
    """How many instances of a series an archive holds."""

    study_uid: str
    series_uid: str
    modality: str
    instances: int


@dataclass(frozen=True)
class Counts:
    """An archive's answer. ``settled``: asked twice since the last instance came, and the same each time."""

    series: tuple[Count, ...]
    settled: bool


@dataclass(frozen=True)
class Needs:
    """What the case offers a recipe: metabolites, kinds of quality maps, a T1 or FLAIR, raw spectra."""

    maps: frozenset[str] = frozenset()
    quality: frozenset[str] = frozenset()
    anatomy: bool = False
    spectra: bool = False


@dataclass(frozen=True)
class Evidence:
    """All that is known about one case. ``fetching`` says in words what an archive was asked for."""

    here: Sequence[Here]
    last_received_at: float
    steps: Sequence[Step] = ()
    counts: Counts | None = None
    fetching: str = ""


@dataclass(frozen=True)
class Verdict:
    """``because`` says why it is complete, or why it goes on without; ``awaited`` what is waited for.

    ``until`` is the latest moment (UTC seconds) of waiting; ``lacking``: strong evidence says that
    something is missing, and the wait for it is over.
    """

    complete: bool
    because: str = ""
    awaited: tuple[str, ...] = ()
    until: float | None = None
    lacking: bool = False


def judge(evidence: Evidence, rules: GatherRules, now: float, needs: Callable[[], Needs]) -> Verdict:
    """The verdict at ``now`` (UTC seconds).

    ``needs`` is asked only when nothing else is missing, and not while instances stream in.
    """
    series = _by_series(evidence.here)
    proven, missing = _performed(evidence, series, rules)
    covered = set(proven)
    tallies = {uid: tally([h.facts for h in members]) for uid, members in series.items() if uid not in proven}
    for uid, found in tallies.items():
        missing += [f"{words} of {_name(series[uid])}" for words in found.missing]
        if found.whole:
            proven.add(uid)
    missing += _fewer_than_counted(evidence, series, covered)
    missing += _fewer_than_the_study(evidence.here)
    if missing:
        until = _last_sign(evidence) + rules.longest_wait_s
        if now < until:
            return Verdict(False, awaited=tuple(missing), until=until)
        waited = f"still missing after {rules.longest_wait_s:g} s: {'; '.join(missing)}"
        return Verdict(True, waited, lacking=True)

    weak = [f"{found.weak} of {_name(series[uid])}" for uid, found in tallies.items() if found.weak]
    quiet_s = rules.quiet_period_s * (2 if weak else 1)
    quiet_until = evidence.last_received_at + quiet_s
    because = _proof(evidence, rules, series, covered, proven)
    if not because and now < min(evidence.last_received_at + STREAMING_S, quiet_until):
        return Verdict(False, awaited=("more instances",), until=quiet_until)
    offered = needs()
    lacks = _recipe_lacks(offered, rules, evidence.fetching)
    if lacks:
        until = max(quiet_until, _last_sign(evidence) + rules.recipe_wait_s)
        if now < until:
            return Verdict(False, awaited=tuple(lacks), until=until)
        return Verdict(True, f"goes on without {'; without '.join(lacks)}: waited {rules.recipe_wait_s:g} s")
    if because:
        return Verdict(True, because)
    if now < quiet_until:
        hint = f" ({'; '.join(weak)} may be missing)" if weak else ""
        return Verdict(False, awaited=(f"more instances{hint}",), until=quiet_until)
    missed = f"; {'; '.join(weak)} never came" if weak else ""
    return Verdict(True, f"no new instance for {quiet_s:g} s{missed}")


def _by_series(here: Iterable[Here]) -> dict[str, list[Here]]:
    found: dict[str, list[Here]] = {}
    for h in here:
        found.setdefault(h.series_uid, []).append(h)
    return found


def _last_sign(evidence: Evidence) -> float:
    """When scanner or sender were last heard of."""
    return max([evidence.last_received_at, *(s.since for s in evidence.steps)])


def _performed(
    evidence: Evidence, series: Mapping[str, Sequence[Here]], rules: GatherRules
) -> tuple[set[str], list[str]]:
    """Series all of which a final step names and which are all here; and what is missing, in words."""
    here = {h.sop_uid for h in evidence.here}
    covered: set[str] = set()
    missing = []
    for step in evidence.steps:
        if step.status is StepStatus.IN_PROGRESS:
            at = datetime.fromtimestamp(step.since, UTC)
            missing.append(f"the end of a procedure step in progress (last heard of {at:%Y-%m-%d %H:%M:%SZ})")
            continue
        for uid, named in step.named.items():
            absent = len(named - here)
            if not absent:
                covered.add(uid)
            elif uid in series or rules.mpps_series == "all":
                name = (
                    _name(series[uid])
                    if uid in series
                    else f"series …{uid[-12:]}, of which nothing has come,"
                )
                missing.append(
                    f"{absent} of {len(named)} instances of {name} named by the {_ended(step)} step"
                )
    return covered, missing


def _ended(step: Step) -> str:
    return "completed" if step.status is StepStatus.COMPLETED else "discontinued"


def _fewer_than_counted(
    evidence: Evidence, series: Mapping[str, Sequence[Here]], covered: set[str]
) -> list[str]:
    missing = []
    for count in evidence.counts.series if evidence.counts else ():
        members = series.get(count.series_uid, ())
        if members and count.series_uid not in covered and len(members) < count.instances:
            absent = count.instances - len(members)
            missing.append(
                f"{absent} of {count.instances} instances of {_name(members)} that the archive holds"
            )
    return missing


def _fewer_than_the_study(here: Sequence[Here]) -> list[str]:
    """Number of Study Related Instances (0020,1208), where a sender states it."""
    return [
        f"{total - n} of {total} instances of study …{uid[-12:]}"
        for uid, (n, total) in _study_totals(here).items()
        if n < total
    ]


def _study_totals(here: Sequence[Here]) -> dict[str, tuple[int, int]]:
    """Study -> instances here and instances announced (0: not stated)."""
    found: dict[str, tuple[int, int]] = {}
    for h in here:
        n, total = found.get(h.study_uid, (0, 0))
        found[h.study_uid] = (n + 1, max(total, number_in(h.facts, "NumberOfStudyRelatedInstances") or 0))
    return found


def _recipe_lacks(offered: Needs, rules: GatherRules, fetching: str) -> list[str]:
    """Maps, quality maps and anatomy that the recipe wants and that may still come, in words."""
    if not offered.maps:
        return ["metabolite maps (only spectra have come)"] if offered.spectra else []
    lacks = []
    if maps := [m for m in rules.expected_maps if m not in offered.maps]:
        lacks.append(f"maps of {', '.join(maps)}, which this site sends")
    if kinds := [k for k in rules.expected_quality if k not in offered.quality]:
        lacks.append(f"quality maps ({', '.join(kinds)}), which this site sends")
    if not offered.anatomy:
        lacks.append("anatomy (T1 or FLAIR)" + (f", {fetching}" if fetching else ""))
    return lacks


def _proof(
    evidence: Evidence,
    rules: GatherRules,
    series: Mapping[str, Sequence[Here]],
    covered: set[str],
    proven: set[str],
) -> str:
    """What proves that the whole study is here, or "". A series that nothing accounts for proves nothing."""
    if evidence.steps and covered >= series.keys():
        stopped = [s for s in evidence.steps if s.status is StepStatus.DISCONTINUED]
        said = "".join(f"; a step was discontinued{f' ({s.reason})' if s.reason else ''}" for s in stopped)
        return f"every instance that the performed procedure step names is here{said}"
    totals = _study_totals(evidence.here)
    if totals and all(total for _, total in totals.values()):
        return "as many instances as the study's headers announce"
    if evidence.counts and evidence.counts.settled and _archive_has_no_more(evidence.counts, series):
        return "the archive holds the same series and no more of them"
    if rules.expected_maps and proven >= series.keys():
        return "every map that this site sends is here, with anatomy, each series whole by its headers"
    return ""


def _archive_has_no_more(counts: Counts, series: Mapping[str, Sequence[Here]]) -> bool:
    counted = {c.series_uid for c in counts.series}
    elsewhere = {c.series_uid for c in counts.series if c.modality in ("MR", "")} - series.keys()
    return counted >= series.keys() and not elsewhere


def _name(members: Sequence[Here]) -> str:
    """How people call a series."""
    facts = members[0].facts
    number, description = text_in(facts, "SeriesNumber"), text_in(facts, "SeriesDescription")
    known = [f"series {number}" if number else "", f"“{description}”" if description else ""]
    return " ".join(k for k in known if k) or f"series …{members[0].series_uid[-12:]}"
