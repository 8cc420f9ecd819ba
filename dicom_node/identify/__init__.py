"""What each series is (metabolite map, quality map, T1, FLAIR, spectra, ours, other) and why. Pure.

It reads headers only. Nothing is dropped in silence: every series gets a role and a reason in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pydicom import Dataset

from dicom_node.config import IdentifyRules
from dicom_node.series import IdentifiedSeries, Part, Role, site_rule, text_of

from . import refuse
from .anatomy import Anatomy, anatomy, contrast_by_name, voxel_mm
from .choose import Candidate, choose
from .labels import Piece, Quantity, pieces, quantities
from .refuse import ours

__all__ = ["IdentifiedSeries", "Part", "Role", "contrast_by_name", "identify", "ours"]

_FINEST_MAP_MM = 1.9  # 2 mm and what headers round it to; finer "maps" were resampled to anatomy


def identify(headers: Sequence[Dataset], rules: IdentifyRules) -> list[IdentifiedSeries]:
    """Give every series of a case its role and the reason, in the order the series first appear.

    ``headers`` are instances without pixels, in any order; Series Number, Instance Number and
    descriptions may be missing. At most one series per role T1 and FLAIR, and one part per quantity,
    is chosen; the reasons of the chosen and of the others say how.
    """
    candidates = [_candidate(group, rules) for group in _by_series(headers)]
    return [c.identified() for c in choose(_total_creatine(candidates))]


def _by_series(headers: Iterable[Dataset]) -> list[list[Dataset]]:
    """Instances by series, each instance once, by SOP Instance UID and not by arrival."""
    groups: dict[tuple[str, str], dict[str, Dataset]] = {}
    for h in headers:
        key = (text_of(h, "StudyInstanceUID"), text_of(h, "SeriesInstanceUID"))
        groups.setdefault(key, {}).setdefault(text_of(h, "SOPInstanceUID"), h)
    return [[group[uid] for uid in sorted(group)] for group in groups.values()]


def _candidate(headers: list[Dataset], rules: IdentifyRules) -> Candidate:
    first = headers[0]

    def is_a(role: Role, reason: str) -> Candidate:
        return Candidate(first, role, reason)

    refused: dict[str, int] = {}
    usable: list[Dataset] = []
    for h in headers:
        if reason := refuse.ours(h, rules):
            return is_a(Role.OURS, reason)
        if refuse.spectra(h):
            return is_a(Role.SPECTRA, refuse.SPECTRA_REASON)
        if reason := refuse.not_an_image(h) or refuse.decoy(h):
            refused[reason] = refused.get(reason, 0) + 1
        else:
            usable.append(h)
    if not usable:
        return is_a(Role.OTHER, max(refused, key=lambda r: refused[r]))
    found = _map_or_anatomy(usable, rules)
    if refused:
        left_out = "; ".join(f"{n} of {len(headers)} instances left out: {r}" for r, n in refused.items())
        found = replace(found, reason=f"{found.reason}; {left_out}")
    return found


def _map_or_anatomy(headers: list[Dataset], rules: IdentifyRules) -> Candidate:
    first = headers[0]
    site = site_rule(first, rules)
    all_pieces = [p for h in headers for p in pieces(h)]
    image_type = refuse.image_type(first)
    called_map = image_type[2:3] == ("METABOLITE_MAP",) or image_type[3:4] == ("METABOLITE_MAP",)
    shape = anatomy(headers, rules)
    dixon = refuse.dixon(d for p in all_pieces if (d := p.map_description))
    if "dixon" in text_of(first, "SeriesDescription").lower() and not called_map:
        dixon = dixon or "Dixon"
    if dixon and (shape is None or "dixon" in text_of(first, "SeriesDescription").lower()):
        return Candidate(first, Role.OTHER, f"{dixon} image (Dixon or water reference): not a metabolite")

    named = quantities(all_pieces, site, known_as_map=called_map or "SPECTROSCOPY" in image_type)
    quantity = next((q for q in named if q), None)
    if quantity is None:
        if shape is not None:
            return _as_anatomy(headers, shape)
        if called_map:
            what = all_pieces[0].map_description or text_of(first, "SeriesDescription") or "nothing"
            return Candidate(
                first, Role.OTHER, f"metabolite map, but its name (“{what}”) is no metabolite this node knows"
            )
        return Candidate(first, Role.OTHER, "neither a metabolite map nor T1 or FLAIR by its attributes")
    size = voxel_mm(first)
    if size and min(size) < _FINEST_MAP_MM:
        if shape is not None and not called_map:
            return _as_anatomy(headers, shape)
        name = quantity.metabolite or quantity.of or quantity.quality or "a metabolite"
        return Candidate(
            first,
            Role.OTHER,
            f"named as {name}, but its voxels are {min(size):.1f} mm: resampled, or no spectroscopy",
        )
    return _as_maps(first, all_pieces, named)


def _as_anatomy(headers: list[Dataset], shape: Anatomy) -> Candidate:
    name = shape.role.value.upper()
    if shape.refused:
        return Candidate(headers[0], Role.OTHER, f"{name} {shape.words}, not used: {shape.refused}")
    part = Part(tuple(text_of(h, "SOPInstanceUID") for h in headers))
    reason = f"{name} {shape.words}"
    if shape.enhanced:
        reason += ", contrast-enhanced"
    rank = (not shape.enhanced, not shape.secondary)
    return Candidate(headers[0], shape.role, reason, ((part, rank),))


def _as_maps(first: Dataset, found: Sequence[Piece], named: Sequence[Quantity | None]) -> Candidate:
    """One part per quantity. Frames of several instances are parts of their own only if cut up."""
    refused = list(dict.fromkeys(q.refused for q in named if q and q.refused))
    groups: dict[Quantity, list[Piece]] = {}
    for piece, q in zip(found, named, strict=True):
        if q and not q.refused:
            groups.setdefault(q, []).append(piece)
    if not groups:
        return Candidate(first, Role.OTHER, "; ".join(refused))
    parts = tuple((part, _rank(first, q)) for q, ps in groups.items() for part in _parts(q, ps, found))
    role = Role.METABOLITE_MAP if any(q.metabolite for q in groups) else Role.QUALITY_MAP
    reason = ", ".join(dict.fromkeys(_words(q) for q in groups))
    unnamed = sum(q is None for q in named)
    if unnamed:
        reason += f"; {unnamed} of {len(named)} slices name no quantity and are left out"
    if refused:
        reason += "; left out: " + "; ".join(refused)
    return Candidate(first, role, reason, parts)


def _parts(q: Quantity, group: Sequence[Piece], all_pieces: Sequence[Piece]) -> list[Part]:
    frames: dict[str, list[int]] = {}
    whole = True
    for p in group:
        frames.setdefault(text_of(p.header, "SOPInstanceUID"), []).extend(
            [] if p.frame is None else [p.frame]
        )
    for p in all_pieces:
        uid = text_of(p.header, "SOPInstanceUID")
        whole &= uid not in frames or p.frame is None or p.frame in frames[uid]

    def part(uids: tuple[str, ...], of_frames: tuple[int, ...] | None) -> Part:
        return Part(uids, of_frames, q.metabolite, q.quality, q.of, q.unit)

    if whole:
        return [part(tuple(frames), None)]
    return [part((uid,), tuple(sorted(numbers))) for uid, numbers in frames.items()]


def _rank(first: Dataset, q: Quantity) -> tuple[bool, ...]:
    """A site's rule before guesses; a peak's area before its height or magnitude."""
    description = text_of(first, "SeriesDescription").lower()
    return (q.by_site, "peak ht" not in description and "magnitude" not in description)


def _words(q: Quantity) -> str:
    by = f", named by its {q.said_by}"
    if q.metabolite:
        return f"{q.metabolite} map{by}"
    what = {"crlb": "CRLB", "snr": "SNR", "linewidth": "linewidth"}[q.quality or "snr"]
    of = f" of {q.of}" if q.of else ""
    return f"{what}{of}{f' in {q.unit}' if q.unit in ('%', 'ppm', 'Hz') else ''}{by}"


def _total_creatine(candidates: list[Candidate]) -> list[Candidate]:
    """A lone "Cr" is total creatine; beside PCr or tCr it is creatine itself."""
    named = {part.metabolite for c in candidates for part, _ in c.parts}
    if "Cr" not in named or named & {"PCr", "tCr"}:
        return candidates
    return [c.with_total_creatine() for c in candidates]
