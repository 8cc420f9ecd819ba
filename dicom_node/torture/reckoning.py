"""What must hold once a tortured node was left alone: the torture's books against the node and its PACS."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dicom_node import custody
from dicom_node.spool import Spool
from dicom_node.store import Kind, Store

from .account import Acknowledged
from .pacs import Held
from .studies import data_set_of
from .watch import Echoes, Sample

_MB = 1024**2
_NAMED = 5
_ENDED = ("DONE", "IGNORED")


@dataclass(frozen=True)
class Limits:
    """What counts as late or as growth. Growth is judged of processes that lived for ``samples`` or more."""

    echo_s: float = 1.0
    done_s: float = 900.0
    growth_mb: int = 100
    growth_files: int = 32
    samples: int = 30


@dataclass(frozen=True)
class Check:
    """One thing that must hold: how many were looked at, and every one for which it does not."""

    name: str
    looked_at: int
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.problems


def acknowledged_are_kept(acknowledged: Mapping[str, Acknowledged], store: Store, spool: Spool) -> Check:
    """Every instance that was answered with Success is in the store, with the data set that was sent."""
    kept = {uid: path for uid, path, *_ in store.kept()}
    problems = []
    for uid, entry in acknowledged.items():
        if uid not in kept:
            problems.append(f"instance {uid} was acknowledged and is lost")
            continue
        try:
            data_set = data_set_of(spool.path(kept[uid]).read_bytes())
        except OSError as e:
            problems.append(f"the file of instance {uid} cannot be read: {e.strerror}")
            continue
        if hashlib.sha256(data_set).hexdigest() != entry.sha256:
            problems.append(f"instance {uid} is kept with another data set than was acknowledged")
    return Check("every acknowledged instance is kept as it was sent", len(acknowledged), tuple(problems))


def custody_is_whole(store: Store, spool: Spool) -> Check:
    """Ledger, rows and files agree (dicom_node.custody)."""
    verified = custody.verify(store, spool)
    return Check(
        "the custody ledger agrees with rows and files", verified.entries + verified.files, verified.problems
    )


def studies_are_done(whole: Iterable[str], store: Store, held: Sequence[Held]) -> Check:
    """Every study that was sent whole has one case, its newest revision DONE, its results at the PACS."""
    at_pacs = {h.sop_uid for h in held}
    cases = {uid: case for case in store.status()["cases"] for uid in case["studies"]}
    problems, looked_at = [], 0
    for uid in whole:
        looked_at += 1
        case = cases.get(uid)
        if case is None:
            problems.append(f"study {uid} is not known")
            continue
        newest = case["revisions"][0]
        if newest["state"] != "DONE":
            said = newest["reason"] or newest["awaited"]
            problems.append(f"study {uid} is {newest['state']}: {said}")
            continue
        due = _objects_of(store, case["case"], newest["revision"])
        missing = [o for o in due if o not in at_pacs]
        if not due:
            problems.append(f"study {uid} is DONE without results")
        elif missing:
            problems.append(f"study {uid}: {len(missing)} of {len(due)} results are not at the PACS")
    return Check("every study sent whole is DONE, its results at the PACS", looked_at, tuple(problems))


def _objects_of(store: Store, case: str, revision: int) -> list[str]:
    """SOP Instance UIDs that the newest attempt of a revision made, by the ledger."""
    made: dict[int, list[str]] = defaultdict(list)
    for entry in store.ledger(case):
        detail = json.loads(entry.detail)
        if entry.kind == Kind.MADE and detail["revision"] == revision and entry.subject.startswith("2.25."):
            made[detail["attempt"]].append(entry.subject)
    return made[max(made)] if made else []


def nothing_is_there_twice(store: Store, held: Sequence[Held]) -> Check:
    """No two objects of one revision show the same under two UIDs; the PACS has none that we never made."""
    revision_of: dict[str, tuple[str, int]] = {}
    for entry in store.ledger():
        if entry.kind == Kind.MADE:
            revision_of[entry.subject] = (entry.case, int(json.loads(entry.detail)["revision"]))
    problems = [
        f"object {h.sop_uid} at the PACS was never made" for h in held if h.sop_uid not in revision_of
    ]
    seen: dict[tuple[object, str, str], str] = {}
    for h in held:
        key = (revision_of.get(h.sop_uid), h.study_uid, h.content)
        if key in seen:
            problems.append(f"objects {seen[key]} and {h.sop_uid} at the PACS are the same")
        seen[key] = h.sop_uid
    return Check("no object is at the PACS twice", len(held), tuple(problems))


def queue_is_empty(store: Store) -> Check:
    """Nothing is under way, nothing waits for a person."""
    status = store.status()
    problems, looked_at = [], 0
    for case in status["cases"]:
        newest = case["revisions"][0]
        looked_at += 1
        if newest["state"] not in _ENDED:
            problems.append(
                f"case {case['case']} is {newest['state']}: {newest['reason'] or newest['awaited']}"
            )
        for d in newest["deliveries"]:
            if d["state"] != "DELIVERED":
                problems.append(f"delivery {d['delivery']} is {d['state']}: {d['reason']}")
    return Check("the queue is empty", looked_at, tuple(problems))


def nothing_hostile_was_taken(taken: Sequence[str], offered: int) -> Check:
    """Not one of them was answered with 0x0000."""
    problems = tuple(f"{what} was answered with 0000" for what in taken)
    return Check("nothing hostile was answered with Success", offered, problems)


def echoes_were_answered(echoes: Echoes, limits: Limits) -> Check:
    """An honest peer had its C-ECHO answered in time while trouble went on."""
    problems = [f"no answer {words}" for words in echoes.missed]
    problems += [f"answered after {s} s" for s in echoes.slow]
    return Check(f"C-ECHO is answered within {limits.echo_s:g} s", echoes.asked, tuple(problems))


def studies_were_in_time(whole: Mapping[str, float], done: Mapping[str, float], limits: Limits) -> Check:
    """From the last acknowledged instance to DONE; ``whole`` and ``done`` in the same seconds."""
    late = [(uid, done[uid] - at) for uid, at in whole.items() if uid in done]
    problems = tuple(f"study {uid} took {s:.0f} s" for uid, s in late if s > limits.done_s)
    return Check(f"a study is DONE {limits.done_s:g} s after it was whole", len(late), problems)


def nothing_grew(samples: Sequence[Sample], limits: Limits) -> Check:
    """Of each process, its last third against the third before: the most memory it held, the fewest files.

    Connections come and go, and with them files: what leaks shows where fewest are open.
    """
    rss: dict[tuple[str, int], list[int]] = defaultdict(list)
    files: dict[tuple[str, int], list[int]] = defaultdict(list)
    for sample in samples:
        for usage in sample.usage:
            rss[usage.room, usage.pid].append(usage.rss)
            files[usage.room, usage.pid].append(usage.files)
    problems, looked_at = [], 0
    for process, seen in rss.items():
        if len(seen) < limits.samples:
            continue
        looked_at += 1
        grown_mb, more = _growth(max, seen) / _MB, _growth(min, files[process])
        if grown_mb > limits.growth_mb:
            problems.append(f"{process[0]} (pid {process[1]}) grew by {grown_mb:.0f} MB")
        if more > limits.growth_files:
            problems.append(f"{process[0]} (pid {process[1]}) has {more} more files open")
    name = f"no process grows by more than {limits.growth_mb} MB or {limits.growth_files} open files"
    return Check(name, looked_at, tuple(problems))


def _growth(figure: Callable[[Sequence[int]], int], seen: Sequence[int]) -> int:
    third = len(seen) // 3
    return figure(seen[-third:]) - figure(seen[third:-third])


def shortened(problems: Sequence[str]) -> list[str]:
    """The first few, and how many more there are."""
    more = len(problems) - _NAMED
    return [*problems[:_NAMED], f"and {more} more"] if more > 0 else list(problems)
