"""What the maps are made for: ratios between metabolites, and the lesions in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import anatomy, baselines, lesion, ratios
from .enlarge import Enlarge, Input
from .maps import Lesion, Mask, MetaboliteMap, RatioMap, Volume
from .metabolites import Contrast, Metabolite, Ratio, Unit
from .midline import find_midline
from .notes import Notes
from .prepare import Prepared, scale_of
from .settings import Settings


def _lr_ratio(recipe: ratios.Recipe, by: dict[Metabolite, Prepared], k: float, inside: Mask) -> Volume:
    """The ratio of repaired, not denoised, LR maps."""
    below = by[recipe.below]
    above = np.sum([by[m].filled for m in recipe.above], axis=0)
    return ratios.divide(above, below.filled, ratios.floor_of(below.filled, below.sigma, k, inside), inside)


def form_ratios(
    prepared: Sequence[Prepared],
    maps: Sequence[MetaboliteMap],
    enlarge: Enlarge,
    brain_lr: Mask,
    settings: Settings,
    notes: Notes,
) -> tuple[RatioMap, ...]:
    """The ratios that can be formed, after or before super-resolution; notes say why others cannot."""
    by = {p.source.metabolite: p for p in prepared}
    sr = {m.metabolite: m.values for m in maps}
    possible, words = ratios.recipes(list(by), settings.naa_as_tnaa)
    notes.warnings += words
    k, inside = settings.ratio_floor_k, enlarge.brain
    if settings.ratios == "before":
        notes.warnings.append(
            "ratios are super-resolved as they are (ratios = before); data consistency does not apply to them"
        )
        low = []
        for recipe in possible:
            below = by[recipe.below]
            floor = ratios.floor_of(below.values, below.sigma, k, brain_lr)
            value = ratios.divide(
                np.sum([by[m].values for m in recipe.above], axis=0), below.values, floor, brain_lr
            )
            above = np.sqrt(np.sum([by[m].sigma ** 2 for m in recipe.above], axis=0))
            sigma = np.hypot(above, value * below.sigma) / np.maximum(below.values, floor)
            low.append(Input(value, sigma.astype(np.float32), scale_of(value, brain_lr), None))
        volumes = [e.values for e in enlarge.all(low, notes)]
    else:
        volumes = []
        for recipe in possible:
            doubt = baselines.trilinear(by[recipe.below].sigma, enlarge.factor)
            floor = ratios.floor_of(sr[recipe.below], doubt, k, inside)
            above = np.sum([sr[m] for m in recipe.above], axis=0)
            volumes.append(ratios.divide(above, sr[recipe.below], floor, inside))
    return tuple(RatioMap(r.ratio, v, enlarge.grid) for r, v in zip(possible, volumes, strict=True))


def find_lesions(
    prepared: Sequence[Prepared],
    maps: Sequence[MetaboliteMap],
    formed: Sequence[RatioMap],
    placed: anatomy.Placed,
    inside: Mask,
    brain_lr: Mask,
    settings: Settings,
    notes: Notes,
) -> tuple[Lesion, ...]:
    """The lesion in each ratio, and in 2HG: possibly empty, never left out."""
    by = {p.source.metabolite: p for p in prepared}
    recipe_of = {r.ratio: r for r in ratios.recipes(list(by), settings.naa_as_tnaa)[0]}
    t1 = placed.image_of(Contrast.T1)
    reference = lesion.tissue(t1, inside)
    plane = find_midline(t1, inside, formed[0].grid) if formed else None
    found = []
    for ratio in formed:
        median, words = lesion.normal_level(ratio.values, reference, inside, ratio.grid, plane)
        if ratio.ratio is Ratio.TCN:
            limit = settings.tcn_times * median
            rule = f"TCN ≥ {settings.tcn_times:g} × {median:.3g}, the median of {words}"
        else:
            low = _lr_ratio(recipe_of[ratio.ratio], by, settings.ratio_floor_k, brain_lr)
            _, sd = lesion.clipped_sd(low, brain_lr)
            limit = median + settings.hgg_k_sd * sd
            rule = (
                f"HGG ≥ {median:.3g} + {settings.hgg_k_sd:g} × {sd:.3g}, the median of {words} "
                f"and the SD of the low-resolution map"
            )
        found.append(
            lesion.find(ratio.ratio, ratio.values, ratio.grid, inside, limit, rule, settings.min_volume_ml)
        )
    for m in maps:
        if m.metabolite is not Metabolite.HG2:
            continue
        if m.unit is Unit.ARBITRARY:
            notes.warnings.append(
                f"2HG is in arbitrary units: its lesion limit, {settings.hg2_min:g}, holds only if it was "
                f"chosen for this site's unit"
            )
        rule = f"2HG ≥ {settings.hg2_min:g} {m.unit}"
        found.append(
            lesion.find("2HG", m.values, m.grid, inside, settings.hg2_min, rule, settings.min_volume_ml)
        )
    return tuple(found)
