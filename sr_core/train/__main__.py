"""Train a network by a recipe: ``python -m sr_core.train CONFIG [--device auto] [--resume]``."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from sr_core.model import LoadedModel, load_model, save_model, source_commit, to_toml
from sr_core.resolve import SHIPPED

from .cases import fingerprint, load_cases, subjects
from .config import Recipe, read
from .loop import train

_INTENDED_USE = (
    "Research: super-resolution by 4 of 3D MRSI metabolite maps of the brain. Not a medical device."
)
_LIMITS = (
    "Trained on simulated metabolite maps only, made from label maps of adults without tumours into which "
    "lesions were drawn. Not validated on measured MRSI. Axial planes; LR voxels of about 5.6 mm; factor 4."
)


def main() -> None:
    """Parse arguments, train, write weights and card."""
    parser = argparse.ArgumentParser(prog="python -m sr_core.train", description=__doc__)
    parser.add_argument("config", type=Path, help="a recipe, such as config/train/unet-small.toml")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--data", help="folder of label maps, instead of the recipe's")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="checkpoints, curves, cache")
    parser.add_argument("--export", type=Path, help="folder for the weights and their card")
    parser.add_argument("--start", type=Path, help="folder of the weights that the recipe starts from")
    chosen = parser.parse_args()
    recipe = read(chosen.config)
    if chosen.data:
        recipe = replace(recipe, data=replace(recipe.data, folder=chosen.data))
    folder = chosen.out / chosen.config.stem
    folder.mkdir(parents=True, exist_ok=True)
    start = load_model(chosen.start or SHIPPED, recipe.start) if recipe.start else None

    cache = chosen.out / "cache"
    training = load_cases(recipe.data, "train", recipe.seed, cache)
    validation = load_cases(recipe.data, "validation", recipe.seed, cache)
    print(f"{len(training)} training cases, {len(validation)} validation cases", flush=True)  # noqa: T201
    provenance = _provenance(recipe, start)
    (folder / "recipe.toml").write_text(to_toml({"training": provenance, "recipe": recipe.as_table()}))
    weights = None if start is None else start.network.state_dict()
    network, history = train(recipe, training, validation, folder, chosen.device, chosen.resume, weights)
    if int(os.environ.get("RANK", "0")) > 0:
        return
    target = chosen.export or folder
    maps = sum(len(c.pairs) for c in validation)
    save_model(target, recipe.name, network, _card(recipe, history, maps, provenance))
    print(f"weights and card: {target}/{recipe.name}.*", flush=True)  # noqa: T201


def _provenance(recipe: Recipe, start: LoadedModel | None) -> dict[str, Any]:
    """What the weights came from: with the same of all this they can be made again."""
    digest = hashlib.sha256(json.dumps(recipe.as_table(), sort_keys=True).encode()).hexdigest()
    split = Path(recipe.data.split)
    return {
        "data": "simulated from brain label maps of SynthSeg (github.com/BBillot/SynthSeg)",
        "licence": "Apache-2.0",
        "train": subjects(split, "train"),
        "validation": subjects(split, "validation"),
        "data_sha256": fingerprint(recipe.data),
        "recipe_sha256": digest,
        "start_sha256": start.sha256 if start is not None else "",
        "command": "python -m sr_core.train " + shlex.join(sys.argv[1:]),
        "commit": source_commit(),
        "seed": recipe.seed,
        "iterations": recipe.iterations,
        "torch": torch.__version__,
    }


def _card(
    recipe: Recipe, history: list[dict[str, float]], maps: int, provenance: dict[str, Any]
) -> dict[str, Any]:
    last = history[-1]
    return {
        "name": recipe.name,
        "intended_use": _INTENDED_USE,
        "limits": _LIMITS,
        "architecture": asdict(recipe.network),
        "training": provenance,
        "recipe": recipe.as_table(),
        "figures": {
            "what": "mean in-brain PSNR in dB on validation cases; data range = LR 99.9th percentile",
            "maps": maps,
            "bicubic": round(last["psnr_initial"], 2),
            "network": round(last["psnr"], 2),
            "network_dc": round(last["psnr_dc"], 2),
            "gradient_ratio": round(last["ratio"], 3),
        },
    }


if __name__ == "__main__":
    main()
