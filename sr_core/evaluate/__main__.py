"""Compare methods on simulated studies: ``python -m sr_core.evaluate CONFIG --part validation``."""

from __future__ import annotations

import argparse
import csv
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from sr_core import Settings, load
from sr_core.simulate import LesionPlan, Options, SimulatedStudy, read_labels, simulate

from . import metrics

_COLUMNS = ("psnr_brain", "psnr_lesion", "ssim", "nrmse")


def main() -> None:
    """Parse arguments, run every method on every study, write results.csv and RESULTS.md."""
    parser = argparse.ArgumentParser(prog="python -m sr_core.evaluate", description=__doc__)
    parser.add_argument("config", type=Path, help="such as config/evaluate/default.toml")
    parser.add_argument("--part", default="validation", help="part of the split: validation, or test once")
    parser.add_argument("--data", type=Path, help="folder of label maps, instead of the configuration's")
    parser.add_argument("--models", type=Path, help="folder of weights, instead of those shipped")
    parser.add_argument("--out", type=Path, default=Path("runs/evaluate"))
    chosen = parser.parse_args()
    rules = tomllib.loads(chosen.config.read_text())
    folder = chosen.data or Path(rules["folder"])
    names = tomllib.loads(Path(rules["split"]).read_text())[chosen.part]
    rows: list[dict[str, Any]] = []
    for name in track(names, description=chosen.part):
        tissue = read_labels(folder / f"{name}.nii.gz")
        for regime in rules["regimes"]:
            options = Options(regime=regime, noise=rules["noise"], lesion=LesionPlan())
            study = simulate(tissue, rules["seed"], options)
            for method in rules["methods"]:
                rows += [
                    {"subject": name, "regime": regime, **row} for row in score(study, method, chosen.models)
                ]
    chosen.out.mkdir(parents=True, exist_ok=True)
    with (chosen.out / "results.csv").open("w", newline="") as f:
        writer = csv.DictWriter(f, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    title = f"{chosen.part}: {len(names)} subjects, seed {rules['seed']}, noise {rules['noise']}"
    (chosen.out / "RESULTS.md").write_text(table(rows, title))
    print((chosen.out / "RESULTS.md").read_text())  # noqa: T201


def score(study: SimulatedStudy, method: str, models: Path | None) -> list[dict[str, Any]]:
    """One row per map: figures in the brain and in the metabolic lesion.

    ``data_range`` of PSNR and SSIM is the 99.9th percentile of the true map in the brain.
    """
    result = load(models, method, Settings())(study.acquisition)
    truths = {str(m.metabolite): m.values for m in study.truth}
    truths |= {str(r.ratio): r.values for r in study.truth_ratios}
    values = {str(m.metabolite): m.values for m in result.maps}
    values |= {str(r.ratio): r.values for r in result.ratios}
    brain, lesion = study.brain, study.lesions["metabolic"]
    rows = []
    for name, x in values.items():
        truth = truths[name] * brain
        span = float(np.percentile(truth[brain], 99.9))
        rows.append(
            {
                "method": method,
                "map": name,
                "psnr_brain": metrics.psnr(x, truth, brain, span),
                "psnr_lesion": metrics.psnr(x, truth, lesion, span),
                "ssim": metrics.ssim(x, truth, brain, span),
                "nrmse": metrics.nrmse(x, truth, brain),
            }
        )
    return rows


def table(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """Mean over subjects, regimes and maps, by method, as Markdown; subjects are averaged first."""
    by_method: dict[str, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_method[row["method"]][row["subject"]].append(row)
    lines = [
        f"# {title}",
        "",
        "| method | " + " | ".join(_COLUMNS) + " |",
        "|---" * (len(_COLUMNS) + 1) + "|",
    ]
    for method, subjects in by_method.items():
        means = [np.mean([np.mean([r[c] for r in s]) for s in subjects.values()]) for c in _COLUMNS]
        lines.append(f"| {method} | " + " | ".join(f"{m:.3f}" for m in means) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
