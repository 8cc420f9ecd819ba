"""A cohort's report: one HTML file with its pictures in it, nothing loaded from elsewhere, no script."""

from __future__ import annotations

import base64
import importlib.metadata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

from .solve import PICTURE

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { padding: .2rem .8rem .2rem 0; text-align: left; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
section { border-top: 1px solid #8888; margin-top: 2rem; } img { max-width: 100%; }
.failed { border-left: .3rem solid #b00; padding-left: 1rem; } .note { font-size: .9rem; opacity: .85; }
"""


def write(path: Path, cases: Sequence[Mapping[str, Any]], failed: Mapping[str, str], folder: Path) -> None:
    """``cases`` as their case.json, ``failed`` by name with the reason; pictures from ``folder``/<key>/."""
    version = importlib.metadata.version("mrsi-sr-node")
    methods = sorted({r["method"] for c in cases for r in c["rows"]})
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>MRSI cohort</title>",
        f"<meta name='viewport' content='width=device-width'><style>{_STYLE}</style><body>",
        f"<h1>MRSI cohort: {len(cases)} cases</h1>",
        f"<p>{escape(', '.join(methods))} · mrsi-sr-node {escape(version)} · {made}</p>",
        "<p><strong>Research use. Not a medical device: no basis of a diagnosis.</strong></p>",
        _failures(failed, len(cases) + len(failed)),
        _overview(cases),
        *(_case(c, folder) for c in cases),
        "</body></html>\n",
    ]
    part = path.with_name(f".{path.name}.part")
    part.write_text("\n".join(parts), encoding="utf-8")
    part.replace(path)


def _failures(failed: Mapping[str, str], of: int) -> str:
    if not failed:
        return ""
    lines = "".join(f"<tr><th>{escape(n)}<td>{escape(why)}" for n, why in failed.items())
    return f"<div class='failed'><h2>{len(failed)} of {of} cases failed</h2><table>{lines}</table></div>"


def _overview(cases: Sequence[Mapping[str, Any]]) -> str:
    """Of each map: in how many cases, its median value, and its lesions."""
    by_map: dict[str, list[Mapping[str, Any]]] = {}
    for row in (r for c in cases for r in c["rows"]):
        by_map.setdefault(row["map"], []).append(row)
    lines = []
    for name, rows in by_map.items():
        sizes = [r["lesion_volume_ml"] for r in rows if r["lesion_volume_ml"] is not None]
        typical = median(r["p50"] or 0.0 for r in rows)
        lesion = f"{median(sizes):.1f}" if sizes else "–"
        cells = [
            len(rows),
            f"{typical:.3g}",
            rows[0]["unit"].strip("{}"),
            sum(s > 0 for s in sizes) if sizes else "–",
            lesion,
        ]
        lines.append(f"<tr><th>{escape(name)}" + "".join(f"<td class='n'>{escape(str(c))}" for c in cells))
    heads = ("cases", "median in the brain", "unit", "with a lesion", "lesion, median mL")
    head = "<tr><th>map" + "".join(f"<th class='n'>{h}" for h in heads)
    return f"<h2>Maps</h2><table>{head}{''.join(lines)}</table>"


def _case(case: Mapping[str, Any], folder: Path) -> str:
    name = " ".join(filter(None, (case["subject"], case["session"])))
    first = case["rows"][0]
    encoded = base64.b64encode((folder / case["key"] / PICTURE).read_bytes()).decode()
    lesions = ", ".join(
        f"{r['map']} {r['lesion_volume_ml']:.1f} mL"
        for r in case["rows"]
        if r["lesion_volume_ml"] is not None
    )
    quality = (
        f"rejected {100 * first['rejected_fraction']:.0f} % of brain voxels, repaired "
        f"{100 * first['inpainted_fraction']:.0f} %; {escape(first['method'])}, {case['seconds']:.0f} s"
    )
    warnings = "".join(f"<li>{escape(w)}" for w in first["warnings"].split(" | ") if w)
    return (
        f"<section><h2>{escape(name)}</h2><p>Lesion: {escape(lesions) or 'not looked for'}</p>"
        f"<img alt='Maps of {escape(name, quote=True)} in one axial plane, lesion outlined' "
        f"src='data:image/jpeg;base64,{encoded}'>"
        f"<p class='note'>{quality}</p><ul class='note'>{warnings}</ul></section>"
    )
