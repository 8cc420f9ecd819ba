"""Trained weights and their card: what is loaded is what was described, or nothing is."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from .maps import Volume
from .networks import UNet

# Planes at once: larger batches spill out of the processor's cache and are slower.
_BATCH = 4
_MARGIN = 8
_OTHERS = ((1, 2), (0, 2), (0, 1))  # the axes to look across, for each axis

_REQUIRED = ("architecture", "training", "figures", "intended_use", "limits", "sha256")


class BadWeights(ValueError):
    """Weights without a card, or that are not those the card describes."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network ready to run. ``card`` is the whole of its card.toml; ``sha256`` names the weights."""

    card: Mapping[str, Any]
    sha256: str
    network: UNet
    device: torch.device

    def predict(self, volume: Volume, noise_sigma: float) -> Volume:
        """Correct ``volume``, planes (slice, row, column) axial, values in units of the LR 99.9th percentile.

        ``noise_sigma`` in the same unit. Only the box around what is not zero is computed; outside it the
        result is ``volume``. float32 in and out.
        """
        box = _box(volume)
        if box is None:
            return volume.copy()
        n, stride = self.network.neighbours, self.network.stride
        count, rows, columns = volume[box].shape
        padded = np.pad(volume[box], ((n, n), (0, -rows % stride), (0, -columns % stride)), mode="edge")
        result = volume.copy()
        part = result[box]
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16()),
        ):
            for start in range(0, count, _BATCH):
                stop = min(start + _BATCH, count)
                planes = np.stack([padded[k : k + 2 * n + 1] for k in range(start, stop)])
                batch = torch.from_numpy(planes).to(self.device, memory_format=torch.channels_last)
                sigma = torch.full((stop - start,), noise_sigma, device=self.device)
                corrected = self.network(batch, sigma)[:, 0, :rows, :columns]
                part[start:stop] = corrected.float().cpu().numpy()
        return result

    def _bfloat16(self) -> bool:
        # Emulated bfloat16 is twice as slow as float32: only where the processor has it.
        return self.device.type == "cuda" or bool(torch.cpu._is_avx512_bf16_supported())


def load_model(directory: Path, name: str) -> LoadedModel:
    """``directory``/``name``.safetensors with its card, on CUDA if there is one.

    Raises BadWeights if either is missing, incomplete, or the sha256 is another than the card's.
    """
    weights, described = directory / f"{name}.safetensors", directory / f"{name}.card.toml"
    for path in (weights, described):
        if not path.is_file():
            raise BadWeights(f"{path} is missing: weights are used only together with their card")
    card = tomllib.loads(described.read_text())
    missing = [key for key in _REQUIRED if key not in card]
    if missing:
        raise BadWeights(f"{described} lacks {', '.join(missing)}")
    content = weights.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != card["sha256"]:
        raise BadWeights(
            f"{weights} is not what its card describes (sha256 {digest[:12]}…, not {card['sha256'][:12]}…)"
        )
    try:
        network = UNet(**card["architecture"])
        network.load_state_dict({k: v.float() for k, v in load_tensors(content).items()})
    except (TypeError, RuntimeError) as e:
        raise BadWeights(f"{described}: its [architecture] does not fit the weights ({e})") from e
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return LoadedModel(card, digest, network.eval(), device)


def save_model(directory: Path, name: str, network: UNet, card: Mapping[str, Any]) -> None:
    """Write weights (float16) and card; the card's sha256 is filled in here."""
    directory.mkdir(parents=True, exist_ok=True)
    content = save_tensors({k: v.detach().half().cpu().contiguous() for k, v in network.state_dict().items()})
    (directory / f"{name}.safetensors").write_bytes(content)
    full = {"sha256": hashlib.sha256(content).hexdigest(), **card}
    (directory / f"{name}.card.toml").write_text(to_toml(full))


def source_commit() -> str:
    """The commit this code was run from, for cards and reports; "unknown" outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def to_toml(table: Mapping[str, Any], prefix: str = "") -> str:
    """A nested table as TOML: strings, numbers, booleans, lists of those, and tables."""
    flat = {k: v for k, v in table.items() if not isinstance(v, Mapping)}
    lines = [f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in flat.items()]
    text = "\n".join(lines) + "\n" if lines else ""
    for key, value in table.items():
        if isinstance(value, Mapping):
            text += f"\n[{prefix}{key}]\n{to_toml(value, f'{prefix}{key}.')}"
    return text


def _box(volume: Volume) -> tuple[slice, slice, slice] | None:
    """The slices that hold anything, and rows and columns with a margin around it; None if empty."""
    there = volume != 0
    if not there.any():
        return None
    low, high = zip(
        *((w[0], w[-1] + 1) for w in (np.flatnonzero(there.any(axis=a)) for a in _OTHERS)), strict=True
    )
    margin = (0, _MARGIN, _MARGIN)
    slices = [
        slice(max(int(a) - m, 0), min(int(b) + m, n))
        for a, b, m, n in zip(low, high, margin, volume.shape, strict=True)
    ]
    return slices[0], slices[1], slices[2]
