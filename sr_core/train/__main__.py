"""Train a network by a recipe: ``python -m sr_core.train CONFIG [--device auto] [--resume]``."""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sr_core.model import save_model, source_commit

from .config import Recipe, read
from .data import fingerprint, load_pairs, subjects
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
    chosen = parser.parse_args()
    recipe = read(chosen.config)
    if chosen.data:
        recipe = replace(recipe, data=replace(recipe.data, folder=chosen.data))
    folder = chosen.out / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps(recipe.as_table(), indent=1))

    cache = chosen.out / "cache"
    training = load_pairs(recipe.data, "train", recipe.seed, cache)
    validation = load_pairs(recipe.data, "validation", recipe.seed, cache)
    print(f"{len(training)} training maps, {len(validation)} validation maps", flush=True)  # noqa: T201
    network, history = train(recipe, training, validation, folder, chosen.device, chosen.resume)
    target = chosen.export or folder
    save_model(target, recipe.name, network, _card(recipe, history, len(validation)))
    print(f"weights and card: {target}/{recipe.name}.*", flush=True)  # noqa: T201


def _card(recipe: Recipe, history: list[dict[str, float]], maps: int) -> dict[str, Any]:
    last = history[-1]
    split = Path(recipe.data.split)
    return {
        "name": recipe.name,
        "intended_use": _INTENDED_USE,
        "limits": _LIMITS,
        "architecture": {"channels": list(recipe.network.channels), "neighbours": recipe.network.neighbours},
        "training": {
            "data": "simulated from brain label maps of SynthSeg (github.com/BBillot/SynthSeg)",
            "licence": "Apache-2.0",
            "train": subjects(split, "train"),
            "validation": subjects(split, "validation"),
            "data_sha256": fingerprint(recipe.data),
            "recipe_sha256": hashlib.sha256(
                json.dumps(recipe.as_table(), sort_keys=True).encode()
            ).hexdigest(),
            "command": "python -m sr_core.train " + shlex.join(sys.argv[1:]),
            "commit": source_commit(),
            "seed": recipe.seed,
            "iterations": recipe.optimiser.iterations,
            "torch": torch.__version__,
        },
        "figures": {
            "what": "mean in-brain PSNR in dB on validation subjects; data range = LR 99.9th percentile",
            "maps": maps,
            "bicubic": round(last["psnr_initial"], 2),
            "network": round(last["psnr"], 2),
        },
    }


if __name__ == "__main__":
    main()
