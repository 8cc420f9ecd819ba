"""The training loop: seeded, resumable, validated on its own subjects."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.progress import Progress

from sr_core.losses import data_loss
from sr_core.model import LoadedModel
from sr_core.networks import UNet

from .config import Recipe
from .data import Crops, Pair

_CHECKPOINT = "checkpoint.pt"


@dataclass
class _State:
    """What a checkpoint holds. ``average`` is the moving average that is exported."""

    network: UNet
    average: dict[str, torch.Tensor]
    adam: torch.optim.Adam
    iteration: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    recipe: Recipe,
    training: Sequence[Pair],
    validation: Sequence[Pair],
    folder: Path,
    device: str,
    resume: bool,
) -> tuple[UNet, list[dict[str, float]]]:
    """Train until ``recipe.optimiser.iterations``; returns the averaged network and the history.

    A checkpoint is written whole or not at all at every validation; with ``resume`` training goes on
    from it, and ends with the same bits as a run that was never interrupted.
    """
    torch.manual_seed(recipe.seed)
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    state = _fresh(recipe, where)
    if resume and (folder / _CHECKPOINT).exists():
        _restore(state, folder / _CHECKPOINT, where)
    rules = recipe.optimiser
    crops = Crops(training, recipe.data.crop, recipe.network.neighbours, rules.batch, recipe.seed)
    fast = where.type == "cuda" or bool(torch.cpu._is_avx512_bf16_supported())
    losses: list[float] = []
    began = time.monotonic()
    with Progress() as bar:
        task = bar.add_task(recipe.name, total=rules.iterations, completed=state.iteration)
        while state.iteration < rules.iterations:
            for group in state.adam.param_groups:
                group["lr"] = _rate(recipe, state.iteration)
            initial, sigma, truth = (t.to(where) for t in crops.batch(state.iteration))
            initial = initial.to(memory_format=torch.channels_last)
            with torch.autocast(where.type, torch.bfloat16, enabled=fast):
                predicted = state.network(initial, sigma)
            loss = data_loss(predicted, truth, rules.l1)
            state.adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            state.adam.step()
            state.iteration += 1
            decay = min(rules.ema, state.iteration / (state.iteration + 10))
            for name, value in state.network.state_dict().items():
                state.average[name].lerp_(value, 1 - decay)
            losses.append(float(loss.detach()))
            bar.advance(task)
            if state.iteration % recipe.validate_every == 0 or state.iteration == rules.iterations:
                figures = validate(_averaged(recipe, state), validation, where)
                row = {"iteration": state.iteration, "loss": float(np.mean(losses)), **figures}
                losses.clear()
                state.history.append(row)
                bar.console.print(json.dumps({**row, "seconds": round(time.monotonic() - began)}))
                _save(state, folder)
                _curves(state.history, folder / "curves.png")
    return _averaged(recipe, state), state.history


def validate(network: UNet, pairs: Sequence[Pair], device: torch.device) -> dict[str, float]:
    """Mean in-brain PSNR in dB (data range 1: the LR 99.9th percentile) of the input and the output."""
    model = LoadedModel({}, "", network.to(device).eval(), device)
    before, after = [], []
    for p in pairs:
        initial, truth = np.asarray(p.initial, np.float32), np.asarray(p.truth, np.float32)
        before.append(_psnr(initial, truth, p.brain))
        after.append(_psnr(model.predict(initial, p.sigma), truth, p.brain))
    return {"psnr_initial": float(np.mean(before)), "psnr": float(np.mean(after))}


def _psnr(x: np.ndarray[Any, Any], truth: np.ndarray[Any, Any], brain: np.ndarray[Any, Any]) -> float:
    return float(-10 * np.log10(np.mean((x - truth)[brain] ** 2)))


def _rate(recipe: Recipe, iteration: int) -> float:
    share = iteration / recipe.optimiser.iterations
    return recipe.optimiser.learning_rate * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * share))))


def _fresh(recipe: Recipe, device: torch.device) -> _State:
    network = UNet(recipe.network.channels, recipe.network.neighbours)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    return _State(network, average, torch.optim.Adam(network.parameters(), betas=(0.9, 0.999)))


def _averaged(recipe: Recipe, state: _State) -> UNet:
    network = UNet(recipe.network.channels, recipe.network.neighbours)
    network.load_state_dict(state.average)
    return network


def _save(state: _State, folder: Path) -> None:
    content = {
        "network": state.network.state_dict(),
        "average": state.average,
        "adam": state.adam.state_dict(),
        "iteration": state.iteration,
        "history": state.history,
    }
    part = folder / f"{_CHECKPOINT}.part"
    with part.open("wb") as f:
        torch.save(content, f)
        f.flush()
        os.fsync(f.fileno())
    part.replace(folder / _CHECKPOINT)


def _restore(state: _State, path: Path, device: torch.device) -> None:
    content = torch.load(path, map_location=device, weights_only=True)
    state.network.load_state_dict(content["network"])
    state.average = content["average"]
    state.adam.load_state_dict(content["adam"])
    state.iteration = content["iteration"]
    state.history = content["history"]


def _curves(history: Sequence[dict[str, float]], path: Path) -> None:
    figure = Figure(figsize=(9, 3.5))
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    at = [row["iteration"] for row in history]
    left.semilogy(at, [row["loss"] for row in history])
    left.set(title="training loss", xlabel="iteration")
    right.plot(at, [row["psnr"] for row in history], label="network")
    right.plot(at, [row["psnr_initial"] for row in history], "--", label="bicubic")
    right.set(title="validation PSNR in the brain (dB)", xlabel="iteration")
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
