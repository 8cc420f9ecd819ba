"""Which cases the figures of a run show, and their predictions."""

from __future__ import annotations

from pathlib import Path

from sr_core.simulate.external import Entry

from .cases import EXTERNAL, INTERNAL, Case, Subject, cases, simulated
from .pictures import WITH_MRI, WITHOUT_MRI, Shown, boxes, side_by_side, zoomed
from .protocol import HEALTHY, Variant
from .report import Run
from .run import Bench, Worker
from .score import scorable

# Figures are published with the code: of heads that may be evaluated on and no more, none is drawn.
_NOT_DRAWN = ("oasis", "brats")
# A template that belongs to nobody goes before a person's head.
_FIRST = "icbm152"


def illustrate(bench: Bench, run: Run, folder: Path) -> list[Path]:
    """Draw the run's figures into ``folder``: box plots, methods side by side, tumours enlarged.

    Shown are an internal and an external subject that may be drawn, healthy and with a lesion. What is
    kept of predictions is used. Returns the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    boxes(run, folder / "boxes.png")
    worker = Worker(bench)
    drawn = chosen(cases(bench.protocol))
    for name, methods in (("without_mri", WITHOUT_MRI), ("with_mri", WITH_MRI)):
        variants = [v for v in bench.protocol.methods if v.name in methods]
        if not variants:
            continue
        shown = [_shown(worker, case, variants) for case in drawn]
        side_by_side(shown, folder / f"{name}.png")
        zoomed(shown, folder / f"{name}_tumour.png")
    return sorted(folder.glob("*.png"))


def chosen(found: list[Case]) -> list[Case]:
    """Of one subject of each source, its first healthy case and its first with a lesion."""
    picked: list[Case] = []
    for source in (INTERNAL, EXTERNAL):
        may = [s for s in dict.fromkeys(c.subject for c in found) if s.source == source and _may_be_drawn(s)]
        may.sort(key=lambda s: s.name != _FIRST)
        for healthy in (True, False):
            own = [c for c in found if c.subject in may[:1]]
            picked += [c for c in own if (c.condition.regime == HEALTHY) == healthy][:1]
    return picked


def _may_be_drawn(subject: Subject) -> bool:
    return not (isinstance(subject.where, Entry) and subject.where.kind in _NOT_DRAWN)


def _shown(worker: Worker, case: Case, variants: list[Variant]) -> Shown:
    made = simulated(case, worker.bench.protocol)
    metabolite = scorable(made.study)[0]
    maps = {v.name: worker.predicted(made, v).maps[metabolite] for v in variants}
    return Shown(made, metabolite, maps)
