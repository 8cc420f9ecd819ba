"""One case of a cohort, in a process of its own: results, rows of the table, picture; whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dicom_node import bids, log, orphan
from dicom_node.config import Settings
from dicom_node.errors import NodeError
from dicom_node.process import Results
from dicom_node.research import solve
from sr_core import SuperResolved, Volume

from .cases import CaseRef
from .picture import picture

PERCENTILES = (5, 25, 50, 75, 95)
CASE, PICTURE = "case.json", "picture.jpg"


@dataclass(frozen=True)
class Task:
    """A case to be done: its results go to ``out``/cases/<key>, or into the data set ``out``/bids."""

    case: CaseRef
    out: Path
    settings: Settings
    layout: str
    fingerprint: str


def begin(threads: int, parent: int) -> None:
    """What a worker process does first: take its share of the cores, and leave when its parent has."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    orphan.leave_with(parent, lambda: os._exit(3))


def run(task: Task) -> str:
    """Do one case. Returns why it failed, in words; "" if it did not."""
    log.configure("WARNING", True)
    work = task.out / "work" / f"{task.case.key}-{os.getpid()}"
    try:
        work.mkdir(parents=True)
        _run(task, work)
    except NodeError as problem:
        return str(problem)
    except OSError as problem:
        return f"{problem.strerror or problem}: is the disk full, or the folder not ours?"
    except Exception as bug:  # one case's bug is not the cohort's end
        place = " ".join(log.place_of(bug).values())
        return f"an error inside the program ({type(bug).__name__}): {place}"
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return ""


def _run(task: Task, work: Path) -> None:
    began = time.monotonic()
    results = solve(task.case.path, work, task.settings)
    picture(results.result, work / PICTURE)
    said = {
        "fingerprint": task.fingerprint,
        "subject": task.case.subject,
        "session": task.case.session,
        "key": task.case.key,
        "seconds": round(time.monotonic() - began, 1),
        "rows": rows(task.case, results),
    }
    if task.layout == "bids":
        bids.arrange(work, task.out / "bids", task.case.bids_session)
        for emptied in ("dicom", "nifti"):
            shutil.rmtree(work / emptied)
    (work / CASE).write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    target = task.out / "cases" / task.case.key
    target.parent.mkdir(exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)  # of other settings, or an earlier input
    work.rename(target)


def rows(case: CaseRef, results: Results) -> list[dict[str, Any]]:
    """One row for each map and ratio: values in the brain and in the lesion, quality, how it was made."""
    report, result = results.report, results.result
    quality = result.quality.rejected_share
    volumes = [(str(m.metabolite), m.values) for m in result.maps]
    volumes += [(str(r.ratio), r.values) for r in result.ratios]
    found = []
    for name, values in volumes:
        row: dict[str, Any] = {"subject": case.subject, "session": case.session, "map": name}
        row["unit"] = report["units"][name]
        row |= _figures(np.asarray(values)[result.brain])
        row |= _lesion(result, name, values)
        row["rejected_share"] = next((s for m, s in quality.items() if str(m) == name), None)
        row |= {key: report[key] for key in ("rejected_fraction", "inpainted_fraction")}
        row["novelty"] = None if result.novelty is None else round(result.novelty.score, 3)
        row |= {"method": report["method"], "model_hash": report["versions"]["model"]}
        row |= {"settings_hash": report["versions"]["settings"]}
        row |= {"software": f"mrsi-sr-node {report['versions']['mrsi-sr-node']}"}
        row["warnings"] = " | ".join(report["warnings"])
        found.append(row)
    return found


def _figures(values: np.ndarray) -> dict[str, float | None]:
    if not values.size:
        return dict.fromkeys(("mean", "max", *(f"p{p:02d}" for p in PERCENTILES)))
    at = np.percentile(values, PERCENTILES)
    figures = {"mean": float(values.mean()), "max": float(values.max())}
    return {**figures, **{f"p{p:02d}": float(v) for p, v in zip(PERCENTILES, at, strict=True)}}


def _lesion(result: SuperResolved, name: str, values: Volume) -> dict[str, float | None]:
    """Of the lesion in this map; None where none is looked for in it."""
    keys = ("lesion_volume_ml", "lesion_mean", "lesion_max", "lesion_p10", "lesion_p90", "lesion_threshold")
    lesion = next((x for x in result.lesion if x.source == name), None)
    if lesion is None:
        return dict.fromkeys(keys)
    found = lesion.mask.any()
    low, high = (float(v) for v in np.percentile(values[lesion.mask], (10, 90))) if found else (None, None)
    of_all = (lesion.mean, lesion.maximum) if found else (None, None)
    return dict(zip(keys, (lesion.volume_ml, *of_all, low, high, lesion.threshold), strict=True))
