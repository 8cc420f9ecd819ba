"""Several finished runs as one page with its pictures, and figures on the cards of networks."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sr_core.model import to_toml

from .gains import by_subject, gain, level_words, values_of
from .report import Run, published, read
from .statistics import mean
from .targets import cells


def publish(folders: Sequence[Path], page: Path, pictures: Path) -> None:
    """Write ``page`` (RESULTS.md) of the runs in ``folders``; their pictures are copied to ``pictures``."""
    runs = [read(folder) for folder in folders]
    pictures.mkdir(parents=True, exist_ok=True)
    shown: dict[str, list[str]] = {}
    for run, folder in zip(runs, folders, strict=True):
        for picture in sorted((folder / "figures").glob("*.png")):
            target = pictures / f"{run.name}_{picture.name}"
            shutil.copyfile(picture, target)
            shown.setdefault(run.name, []).append(os.path.relpath(target, page.parent))
    page.write_text(published(runs, shown))


def card_figures(run: Run, methods: Sequence[str]) -> dict[str, Any]:
    """What a card says of ``run``: PSNR of the baseline and gains of ``methods`` over it, by condition."""
    baseline = run.methods[0]
    found: dict[str, Any] = {
        "what": f"mean PSNR of {baseline} in dB over the full field of view, data range = the truth's "
        "maximum, and gains over it; means over maps, studies, subjects",
        "subjects": len({s.subject for s in run.scores}),
        "commit": run.provenance["commit"],
    }
    for (regime, noise, snr), own in cells(run.scores).items():
        row = {"baseline": mean(by_subject(values_of(own, baseline, "psnr_full")))}
        gains = {m: gain(own, m, baseline, "psnr_full") for m in methods}
        row |= {m.replace("+", "_"): g.mean for m, g in gains.items() if g is not None}
        name = f"{regime}_{level_words(noise, snr)}".replace(" × ", "_").replace(" ", "_")
        found[name] = {key: round(value, 2) for key, value in row.items()}
    return found


def record(run: Run, networks: Mapping[tuple[Path, str], Sequence[str]]) -> None:
    """Write the run's figures on the card of each network, by folder and name with the methods it is in."""
    for (folder, name), methods in networks.items():
        card = folder / f"{name}.card.toml"
        table = tomllib.loads(card.read_text())
        figures = {**table["figures"]}
        figures[run.part] = {**figures.get(run.part, {}), run.name: card_figures(run, methods)}
        part = card.with_suffix(".part")
        part.write_text(to_toml({**table, "figures": figures}))
        part.replace(card)
