"""Which cases the figures of a run show, and their predictions."""

from __future__ import annotations

from pathlib import Path

from .cases import EXTERNAL, INTERNAL, Case, cases, simulated
from .pictures import WITH_MRI, WITHOUT_MRI, Shown, boxes, side_by_side, zoomed
from .protocol import HEALTHY, Variant
from .report import Run
from .run import Bench, Worker
from .score import scorable


def illustrate(bench: Bench, run: Run, folder: Path) -> list[Path]:
    """Draw the run's figures into ``folder``: box plots, methods side by side, tumours enlarged.

    Shown are the first internal and the first external subject, healthy and with a lesion. What is kept
    of predictions is used. Returns the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    boxes(run, folder / "boxes.png")
    worker = Worker(bench)
    chosen = _chosen(cases(bench.protocol))
    for name, methods in (("without_mri", WITHOUT_MRI), ("with_mri", WITH_MRI)):
        variants = [v for v in bench.protocol.methods if v.name in methods]
        if not variants:
            continue
        shown = [_shown(worker, case, variants) for case in chosen]
        side_by_side(shown, folder / f"{name}.png")
        zoomed(shown, folder / f"{name}_tumour.png")
    return sorted(folder.glob("*.png"))


def _chosen(found: list[Case]) -> list[Case]:
    """Of the first subject of each source, its first healthy case and its first with a lesion."""
    chosen: list[Case] = []
    for source in (INTERNAL, EXTERNAL):
        own = [c for c in found if c.subject.source == source]
        for healthy in (True, False):
            alike = [
                c for c in own if c.subject == own[0].subject and (c.condition.regime == HEALTHY) == healthy
            ]
            chosen += alike[:1]
    return chosen


def _shown(worker: Worker, case: Case, variants: list[Variant]) -> Shown:
    made = simulated(case, worker.bench.protocol)
    metabolite = scorable(made.study)[0]
    maps = {v.name: worker.predicted(made, v).maps[metabolite] for v in variants}
    return Shown(made, metabolite, maps)
