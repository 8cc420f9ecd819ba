"""What methods made of cases, on disk: scoring never needs to resolve again."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sr_core.kspace import Part
from sr_core.maps import Mask, SuperResolved, Volume
from sr_core.metabolites import Metabolite

_STEPS = 65535  # of a map's maximum: an error of 4e-6 of it, -107 dB


@dataclass(frozen=True)
class Identity:
    """What a prediction was made by, and of. One of another identity is stale and never used.

    ``settings`` is their digest, ``weights`` the sha256 of the network ("" without one), ``input`` that
    of the acquisition that was resolved.
    """

    method: str
    settings: str
    weights: str
    seed: int
    input: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """Maps on the SR grid by metabolite, 0 outside ``brain``.

    ``method_used`` and ``warnings`` as in ``Provenance``; ``commit`` the source it was made with;
    ``seconds`` it took.
    """

    identity: Identity
    maps: Mapping[Metabolite, Volume]
    brain: Mask
    method_used: str
    warnings: tuple[str, ...]
    commit: str
    seconds: float


def of_result(result: SuperResolved, identity: Identity, commit: str, seconds: float) -> Prediction:
    """The part of ``result`` that is scored."""
    return Prediction(
        identity,
        {m.metabolite: m.values for m in result.maps},
        result.brain,
        result.provenance.method_used,
        result.provenance.warnings,
        commit,
        seconds,
    )


def write(prediction: Prediction, path: Path) -> None:
    """Keep ``prediction``; a file is whole or not there.

    Values in the brain only, 16 bits of each map's maximum. Raises ValueError for negative values.
    """
    part = Part.around(prediction.brain)
    about: dict[str, Any] = {
        "identity": asdict(prediction.identity),
        "shape": part.shape,
        "start": part.start,
        "stop": part.stop,
        "method_used": prediction.method_used,
        "warnings": prediction.warnings,
        "commit": prediction.commit,
        "seconds": round(prediction.seconds, 2),
        "maximum": {},
    }
    arrays: dict[str, np.ndarray[Any, Any]] = {"brain": np.packbits(prediction.brain[part.box])}
    for metabolite, volume in prediction.maps.items():
        values = volume[prediction.brain]
        if values.min() < 0:
            raise ValueError(f"a super-resolved {metabolite} map is not negative")
        top = float(values.max())
        about["maximum"][str(metabolite)] = top
        steps = np.rint(values.astype(np.float64) * (_STEPS / top)) if top > 0 else np.zeros(values.shape)
        arrays[str(metabolite)] = steps.astype(np.uint16)
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    part_file = path.with_suffix(f".{os.getpid()}.part")
    with part_file.open("wb") as f:
        np.savez_compressed(f, allow_pickle=False, **arrays)
    part_file.replace(path)


def read(path: Path, identity: Identity) -> Prediction | None:
    """What ``write`` kept; None if it is not there, not whole, or of another identity."""
    try:
        with np.load(path) as stored:
            about = json.loads(stored["about"].tobytes())
            if about["identity"] != asdict(identity):
                return None
            part = Part(*(tuple(about[k]) for k in ("shape", "start", "stop")))
            box_shape = tuple(b - a for a, b in zip(part.start, part.stop, strict=True))
            inside = np.unpackbits(stored["brain"], count=int(np.prod(box_shape))).reshape(box_shape) > 0
            brain = np.zeros(part.shape, dtype=bool)
            brain[part.box] = inside
            maps: dict[Metabolite, Volume] = {}
            for name, top in about["maximum"].items():
                volume = np.zeros(part.shape, dtype=np.float32)
                volume[brain] = stored[name].astype(np.float64) * (top / _STEPS)
                maps[Metabolite(name)] = volume
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    return Prediction(
        identity,
        maps,
        brain,
        about["method_used"],
        tuple(about["warnings"]),
        about["commit"],
        about["seconds"],
    )
