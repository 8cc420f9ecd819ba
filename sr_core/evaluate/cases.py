"""The cases of an evaluation: whose anatomy, which lesion and noise, which seed."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np

from sr_core.maps import Volume
from sr_core.metabolites import Metabolite
from sr_core.simulate import TAUS, SimulatedStudy, TissueModel, read_labels, second_truth, simulate
from sr_core.simulate.external import Entry, Group, read_pool, read_subject

from .protocol import Condition, Protocol

INTERNAL, EXTERNAL = get_args(Group)
# From one subject to the next τ goes on by so many of the paper's seven values: few subjects spread well.
_TAU_STEP = 2


@dataclass(frozen=True)
class Subject:
    """One anatomy. ``source``: "internal", a label map like those trained on, or "external".

    ``where`` is the label map's path, or its entry in a pool.
    """

    name: str
    source: str
    where: Path | Entry = field(compare=False)


@dataclass(frozen=True)
class Case:
    """One simulated study to be resolved and scored."""

    subject: Subject
    condition: Condition
    seed: int
    tau: float

    def __str__(self) -> str:
        """A name for files."""
        return f"{self.subject.name} {self.condition}"


@dataclass(frozen=True, eq=False)
class Simulated:
    """A case, simulated: what is resolved, and the truth to score by."""

    case: Case
    study: SimulatedStudy

    def truth_of(self, metabolite: Metabolite) -> Volume:
        """The true map of ``metabolite``."""
        return self.study.truth_of(metabolite).values

    @cached_property
    def input_digest(self) -> str:
        """sha256 over all that a method sees."""
        a = self.study.acquisition
        digest = hashlib.sha256(repr((a.acquired_matrix, a.psf, a.grid.affine.tolist())).encode())
        for m in a.maps:
            digest.update(str(m.metabolite).encode())
            _add(digest, m.values, m.crlb_percent)
        _add(digest, a.snr, a.linewidth_ppm, a.brain_mask)
        for image in a.anatomy:
            digest.update(f"{image.contrast} {image.grid.affine.tolist()}".encode())
            _add(digest, image.values)
        return digest.hexdigest()

    @cached_property
    def truth_digest(self) -> str:
        """sha256 over all that scoring sees beside a result."""
        digest = hashlib.sha256(self.input_digest.encode())
        _add(digest, *(m.values for m in self.study.truth), self.study.brain)
        for _, mask in sorted({**self.study.lesions, **self.study.tissue}.items()):
            _add(digest, mask)
        return digest.hexdigest()


def _add(digest: Any, *arrays: np.ndarray[Any, Any] | None) -> None:
    for values in arrays:
        if values is not None:
            digest.update(np.ascontiguousarray(values).tobytes())


def subjects(protocol: Protocol) -> list[Subject]:
    """Those of the protocol's part: of the pool if there is one and the part is "test", else of the split.

    Raises ValueError if the split has no such part, or the pool no such head.
    """
    if protocol.pool and protocol.part == "test":
        entries = read_pool(Path(protocol.pool), Path(protocol.pool_data))
        known = [e.name for e in entries]
        unknown = sorted(set(protocol.heads) - set(known))
        if unknown:
            raise ValueError(f"{protocol.pool} has no {', '.join(unknown)}; it has {', '.join(known)}")
        return [Subject(e.name, e.group, e) for e in entries if e.name in (protocol.heads or known)]
    split = tomllib.loads(Path(protocol.split).read_text())
    if protocol.part not in split:
        raise ValueError(f"{protocol.split} has no part {protocol.part!r}; it has {', '.join(split)}")
    return [
        Subject(str(name), INTERNAL, Path(protocol.data) / f"{name}.nii.gz") for name in split[protocol.part]
    ]


def cases(protocol: Protocol) -> list[Case]:
    """Every case, subject by subject.

    τ goes through the paper's seven values in turn, within internal and external subjects apart, so that
    it is spread evenly over both; it is the same in all regimes of a subject's draw.
    """
    found: list[Case] = []
    count = {INTERNAL: 0, EXTERNAL: 0}
    for subject in subjects(protocol):
        for condition in protocol.conditions():
            place = count[subject.source] * protocol.draws + condition.draw
            found.append(
                Case(
                    subject,
                    condition,
                    study_seed(protocol.seed, subject.name, condition.draw),
                    TAUS[place * _TAU_STEP % len(TAUS)],
                )
            )
        count[subject.source] += 1
    return found


def study_seed(seed: int, subject: str, draw: int = 0) -> int:
    """The seed of one draw of one subject: it depends on nothing but these three."""
    which = f" draw {draw}" if draw else ""
    return int(hashlib.sha256(f"evaluate {seed} {subject}{which}".encode()).hexdigest()[:8], 16)


@lru_cache(maxsize=1)
def tissue_of(subject: Subject) -> TissueModel:
    """The anatomy of ``subject``; the last one is kept."""
    if isinstance(subject.where, Path):
        return read_labels(subject.where)
    return read_subject(subject.where)


def simulated(case: Case, protocol: Protocol) -> Simulated:
    """``case`` with the maps that ``protocol`` keeps, and its kind of truth."""
    study = simulate(tissue_of(case.subject), case.seed, protocol.options(case.condition, case.tau))
    if protocol.metabolites:
        acquisition = study.acquisition
        kept = tuple(m for m in acquisition.maps if m.metabolite in protocol.metabolites)
        study = replace(study, acquisition=replace(acquisition, maps=kept))
    if protocol.truth == 2:
        study = replace(study, truth=second_truth(study))
    return Simulated(case, study)


def matching(case: Case, protocol: Protocol) -> SimulatedStudy:
    """The study of ``case`` with the same lesion in its chemistry, without noise.

    What a lesion that only anatomy shows would have been in the maps.
    """
    condition = replace(case.condition, regime="match", noise=0.0, snr=None)
    return simulate(tissue_of(case.subject), case.seed, protocol.options(condition, case.tau))
