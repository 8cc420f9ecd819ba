"""Trained weights and their card: what is loaded is what was described, or nothing is."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from .maps import Mask, Volume
from .metabolites import Contrast
from .networks import UNet
from .slabs import Slabs

# Slabs at once: larger batches spill out of the processor's cache and are slower.
_BATCH = 4
_MARGIN = 8
# The order in which a network with two images takes them.
CONTRASTS = (Contrast.T1, Contrast.FLAIR)
_OTHERS = ((1, 2), (0, 2), (0, 1))  # the axes to look across, for each axis

_BARE = re.compile(r"[A-Za-z0-9_-]+")  # TOML takes other keys in quotes only
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

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """The anatomical images that it takes besides the map, in order."""
        return CONTRASTS[: self.network.images]

    def predict(
        self, volume: Volume, noise_sigma: float, images: Sequence[Volume | None] = (), single: bool = False
    ) -> Volume:
        """Correct ``volume``, planes (slice, row, column) axial, values in units of the LR 99.9th percentile.

        ``noise_sigma`` in the same unit; ``images`` as ``standardised``, one for each of ``contrasts``,
        None for what is missing. ``single``: planes were measured as they are, each goes through by
        itself; else slices were enlarged by 4. Only the box around what is not zero is computed; outside
        it the result is ``volume``. float32 in and out. Raises ValueError for another number of images.
        """
        if len(images) != self.network.images:
            raise ValueError(f"this network takes {self.network.images} anatomical images, not {len(images)}")
        if single:
            return self._by_plane(volume, noise_sigma, images)
        network = self.network
        box = _box(volume, network.stride)
        if box is None:
            return volume.copy()
        slabs = Slabs(volume.shape, network.planes, network.stride, box)
        result = volume.copy()
        stacks = slabs.padded(volume, network.context)
        seen = [slabs.padded(i, network.image_context) if i is not None else None for i in images]
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=has_fast_bfloat16(self.device)),
        ):
            for first in range(0, slabs.count, _BATCH):
                which = range(first, min(first + _BATCH, slabs.count))
                stack = self._on_device([slabs.cut(stacks, n, network.context) for n in which])
                sigma = torch.full((len(which),), noise_sigma, device=self.device)
                anatomy = None
                if images:
                    anatomy = self._on_device([slabs.cut_all(seen, n, network.image_context) for n in which])
                corrected = network(stack, sigma, anatomy).float().cpu().numpy()
                for n, slab in zip(which, corrected, strict=True):
                    slabs.paste(slab, n, result)
        return result

    def _by_plane(self, volume: Volume, noise_sigma: float, images: Sequence[Volume | None]) -> Volume:
        """Every plane as a volume of nothing but itself, as training showed it single slabs."""
        result = volume.copy()
        for k in range(volume.shape[0]):

            def alone(v: Volume, k: int = k) -> Volume:
                return np.repeat(v[k : k + 1], self.network.planes, axis=0)

            seen = [None if i is None else alone(i) for i in images]
            result[k] = self.predict(alone(volume), noise_sigma, seen).mean(axis=0)
        return result

    def _on_device(self, arrays: Sequence[Volume]) -> torch.Tensor:
        return torch.from_numpy(np.stack(arrays)).to(self.device, memory_format=torch.channels_last)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` computes in bfloat16 by itself: emulated, it is twice as slow as float32."""
    return device.type == "cuda" or bool(torch.cpu._is_avx512_bf16_supported())


def standardised(image: Volume, brain: Mask) -> Volume:
    """``image`` as networks see anatomy: (v − mean) / SD within ``brain``, 0 outside it, within ± 4.

    Mean and SD of what lies between the 5th and the 95th percentile, so that neither a bright lesion nor
    a vessel decides; a scanner's arbitrary gain and offset drop out.
    """
    inside = image[brain]
    out = np.zeros(image.shape, np.float32)
    if not inside.size:
        return out
    low, high = np.percentile(inside, (5, 95))
    usual = inside[(inside >= low) & (inside <= high)]
    spread = float(usual.std())
    if spread > 0:
        out[brain] = np.clip((inside - float(usual.mean())) / spread, -4, 4)
    return out


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
    """A nested table as TOML: strings, numbers, booleans, lists of those, tables, and lists of tables."""
    text = ""
    for key, value in table.items():
        if not _is_table(value) and not _are_tables(value):
            text += f"{_named(key)} = {json.dumps(value, ensure_ascii=False)}\n"
    for key, value in table.items():
        name = f"{prefix}{_named(key)}"
        if _is_table(value):
            text += f"\n[{name}]\n{to_toml(value, f'{name}.')}"
        elif _are_tables(value):
            text += "".join(f"\n[[{name}]]\n{to_toml(v, f'{name}.')}" for v in value)
    return text


def _named(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _are_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(_is_table(v) for v in value)


def _box(volume: Volume, stride: int) -> tuple[slice, slice, slice] | None:
    """The slices that hold anything, and rows and columns with a margin around it; None if empty.

    Rows and columns begin at whole multiples of ``stride``: strided convolutions then meet the same
    voxels as on the whole plane, and the result does not hang on where the brain begins.
    """
    there = volume != 0
    if not there.any():
        return None
    spans = [np.flatnonzero(there.any(axis=across)) for across in _OTHERS]
    slices = slice(int(spans[0][0]), int(spans[0][-1]) + 1)
    rows, columns = (
        slice(max(int(w[0]) - _MARGIN, 0) // stride * stride, min(int(w[-1]) + 1 + _MARGIN, n))
        for w, n in zip(spans[1:], volume.shape[1:], strict=True)
    )
    return slices, rows, columns
