"""The parameters of feature non-local means, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["single", "boxmean", "dc", "joint"]


@dataclass(frozen=True)
class Fnlm:
    """How maps are re-interpolated with the anatomical image; defaults chosen on validation subjects.

    ``mode``: see ``sr_core.fnlm.modes``. ``guide``: FLAIR else T1, T1 else FLAIR, or both together.
    ``window``: neighbours in "3d" or within the slice, "2d"; ``radius`` of it in SR voxels; ``kept``
    most similar of them. ``h``: similarity of guides, as root mean squared feature difference, the
    guide's range in the brain being 1. ``hx``: similarity of maps, as a share of the map's range.
    ``passes`` where each is followed by a correction; ``refresh``: passes between two looks at the
    map itself. ``log``: the Laplacian of Gaussian as a further feature. Raises ValueError, naming
    the parameter.
    """

    mode: Mode = "joint"
    guide: Literal["flair", "t1", "both"] = "both"
    window: Literal["3d", "2d"] = "3d"
    radius: float = 3.3
    kept: int = 40
    h: float = 0.08
    hx: float = 0.15
    passes: int = 10
    refresh: int = 5
    log: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (
            ("mode", ("single", "boxmean", "dc", "joint")),
            ("guide", ("flair", "t1", "both")),
            ("window", ("3d", "2d")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"fnlm.{name} is one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        for name in ("kept", "h", "hx", "passes", "refresh"):
            if not getattr(self, name) > 0:
                raise ValueError(f"fnlm.{name} is positive, not {getattr(self, name)}")
        if not 1 <= self.radius <= 16:
            raise ValueError(f"fnlm.radius is 1 to 16 voxels, not {self.radius}")
