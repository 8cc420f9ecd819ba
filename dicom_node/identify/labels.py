"""Which quantity each instance or frame holds: codes first, then what the exporter wrote in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from dicom_node.config import SiteRule
from dicom_node.names import Label, canonical, quality_of, read_label
from dicom_node.series import QualityKind, text_of

_QUANTITY = ("246205007", "SCT")
# (code value, scheme) -> what it means (PS3.16 CID 4032, 4033, 7180; PubChem compound numbers).
_CODES = {
    ("115391007", "SCT"): "NAA",
    ("65123005", "SCT"): "tCho",
    ("14804005", "SCT"): "tCr",
    ("25761002", "SCT"): "Gln",
    ("113080", "DCM"): "Glx",
    ("72164009", "SCT"): "Ins",
    ("83036002", "SCT"): "Lac",
    ("70106000", "SCT"): "Lip",
    ("10944007", "SCT"): "Tau",
    ("33032", "PUBCHEM_CID"): "Glu",
    ("439391", "PUBCHEM_CID"): "2HG",
    ("43", "PUBCHEM_CID"): "2HG",
    ("750", "PUBCHEM_CID"): "Gly",
    ("124886", "PUBCHEM_CID"): "GSH",
    ("119", "PUBCHEM_CID"): "GABA",
    ("113081", "DCM"): "Cho/Cr",
    ("113082", "DCM"): "NAA/Cr",
    ("113083", "DCM"): "NAA/Cho",
    ("113096", "DCM"): "Cr/Cho ratio",
    ("113060", "DCM"): "SNR",
}


# A code names the peak; words may say which of the pools under it is meant.
_POOLS = {"NAA": ("NAA", "NAAG", "tNAA"), "tCho": ("tCho", "GPC", "PCh"), "tCr": ("tCr", "Cr", "PCr")}
_CODED = ("quantity definition", "metabolite map code")


@dataclass(frozen=True)
class Quantity:
    """What one piece holds. ``refused`` says why it cannot be used; ``said_by`` where its name stands."""

    metabolite: str | None = None
    quality: QualityKind | None = None
    of: str | None = None
    unit: str | None = None
    said_by: str = ""
    refused: str | None = None
    by_site: bool = False


@dataclass(frozen=True)
class Piece:
    """One instance (``frame`` None), or one frame of it, with the functional groups that describe it."""

    header: Dataset
    frame: int | None
    groups: tuple[Dataset, ...]

    def items(self, keyword: str) -> Iterator[Dataset]:
        """Items of a sequence: of the frame first, then shared, then of the instance itself."""
        for group in (*self.groups, self.header):
            yield from group.get(keyword) or ()

    @property
    def map_description(self) -> str:
        """Metabolite Map Description (0018,9080), "" if absent."""
        return next(
            (text_of(i, "MetaboliteMapDescription") for i in self.items("MRMetaboliteMapSequence")), ""
        )


def pieces(header: Dataset) -> list[Piece]:
    """The frames of a multi-frame instance, or the instance itself."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        return [Piece(header, None, ())]
    shared = tuple(header.get("SharedFunctionalGroupsSequence") or ())
    return [Piece(header, i, (groups, *shared)) for i, groups in enumerate(per_frame)]


def quantities(found: Sequence[Piece], site: SiteRule | None, known_as_map: bool) -> list[Quantity | None]:
    """The quantity of each piece of one series; None where nothing names one.

    Comments that differ from instance to instance tell the pieces apart; else they speak for the
    series. ``known_as_map``: Image Type or a code says these are spectroscopic maps, so that an
    ambiguous word ("Cr") is enough.
    """
    alias = site.alias if site else {}
    comments = [text_of(p.header, "ImageComments") for p in found]
    vary = len(set(comments)) > 1
    own = [_own_labels(p, alias, comment if vary else "") for p, comment in zip(found, comments, strict=True)]
    several = len({(lb.metabolites, lb.quality) for labels in own for _, lb in labels}) > 1
    first = found[0].header
    about_all = [
        (words, read_label(text, alias))
        for words, text in (
            ("series description", text_of(first, "SeriesDescription")),
            ("protocol name", text_of(first, "ProtocolName")),
            ("image comments", "" if vary else comments[0]),
        )
        if text
    ]
    return [
        (_by_site(p, site) if site and site.maps else None)
        or _decide(labels, about_all, several, known_as_map, p, site)
        for p, labels in zip(found, own, strict=True)
    ]


def _own_labels(piece: Piece, alias: Mapping[str, str], comment: str) -> list[tuple[str, Label]]:
    said: list[tuple[str, Label]] = []
    for mapping in piece.items("RealWorldValueMappingSequence"):
        for item in mapping.get("QuantityDefinitionSequence") or ():
            name = next(iter(item.get("ConceptNameCodeSequence") or ()), Dataset())
            if (text_of(name, "CodeValue"), text_of(name, "CodingSchemeDesignator")) == _QUANTITY:
                said += [("quantity definition", _coded(c)) for c in item.get("ConceptCodeSequence") or ()]
    for item in piece.items("MRMetaboliteMapSequence"):
        codes = item.get("MetaboliteMapCodeSequence") or ()
        said += [("metabolite map code", _coded(code)) for code in codes]
        said.append(("metabolite map description", _label(item, "MetaboliteMapDescription", alias)))
    for mapping in piece.items("RealWorldValueMappingSequence"):
        said.append(("real world value label", _label(mapping, "LUTLabel", alias)))
    for item in piece.items("FrameContentSequence"):
        said.append(("frame label", _label(item, "FrameLabel", alias)))
        said.append(("stack", _label(item, "StackID", alias)))
    said.append(("content label", _label(piece.header, "ContentLabel", alias)))
    said.append(("image comments", read_label(comment, alias)))
    return [(where, label) for where, label in said if label.metabolites or label.quality or label.ratio]


def _label(item: Dataset, keyword: str, alias: Mapping[str, str]) -> Label:
    return read_label(text_of(item, keyword).replace("_", " "), alias)


def _coded(code: Dataset) -> Label:
    key = (text_of(code, "CodeValue"), text_of(code, "CodingSchemeDesignator"))
    return read_label(_CODES.get(key, text_of(code, "CodeMeaning")))


_KINDS: dict[QualityKind | None, tuple[str, ...]] = {
    None: ("conc", "map", "amp", "signal"),
    "crlb": ("crlb", "sd"),
    "snr": ("snr",),
    "linewidth": ("linewidth", "fwhm"),
}


def _unit(piece: Piece, site: SiteRule | None, quality: QualityKind | None) -> str | None:
    """What the site rule says for this kind of map; else what the header says; else None."""
    for kind in _KINDS[quality]:
        if site is not None and kind in site.units:
            return site.units[kind]
    for mapping in piece.items("RealWorldValueMappingSequence"):
        for code in mapping.get("MeasurementUnitsCodeSequence") or ():
            return text_of(code, "CodeValue") or None
    return None


def _decide(
    own: Sequence[tuple[str, Label]],
    about_all: Sequence[tuple[str, Label]],
    several: bool,
    known_as_map: bool,
    piece: Piece,
    site: SiteRule | None,
) -> Quantity | None:
    """The most specific label that names a metabolite decides; quality and ratio may stand elsewhere."""
    labels = [*own, *about_all]
    speak_of_kind = list(own) if several else labels
    where, named = next(((w, lb) for w, lb in labels if lb.metabolites), ("", Label()))
    if where in _CODED:
        pool = _POOLS.get(named.metabolite or "", ())
        in_words = ((w, lb) for w, lb in labels if w not in _CODED and lb.metabolite in pool)
        where, named = next(in_words, (where, named))
    if any(w == "series description" and lb.metabolites == named.metabolites for w, lb in about_all):
        where = "series description"  # what people read
    quality, percent = next(
        ((lb.quality, lb.percent) for _, lb in speak_of_kind if lb.quality), (None, False)
    )
    if not (known_as_map or any(lb.sure for _, lb in labels)):
        return None
    if any(lb.ratio for _, lb in speak_of_kind):
        return Quantity(refused="ratio map: ratios are made here from metabolites", said_by=where)
    if len(named.metabolites) > 1:
        several_named = ", ".join(named.metabolites)
        return Quantity(refused=f"its {where} names several metabolites ({several_named})", said_by=where)
    if quality == "crlb" and not named.metabolite:
        return Quantity(refused="CRLB map that does not say of which metabolite", said_by=where)
    if quality:
        where = where or next(w for w, lb in speak_of_kind if lb.quality)
        unit = "%" if quality == "crlb" and percent else _unit(piece, site, quality)
        return Quantity(quality=quality, of=named.metabolite, unit=unit, said_by=where)
    if named.metabolite:
        return Quantity(metabolite=named.metabolite, unit=_unit(piece, site, None), said_by=where)
    return None


def _by_site(piece: Piece, site: SiteRule) -> Quantity | None:
    """The site's own pattern over its own fields: ``met`` and ``kind`` are the groups it may name."""
    for keyword in site.fields:
        match = re.search(site.maps or "", text_of(piece.header, keyword))
        if match is None:
            continue
        groups = match.groupdict()
        met, kind = groups.get("met") or "", groups.get("kind") or ""
        quality = quality_of(kind)
        unit = site.units.get(kind) or site.units.get(kind.lower()) or _unit(piece, site, quality)
        metabolite = canonical(met, site.alias)
        if met and metabolite is None:
            ratio = read_label(met).ratio
            why = "ratio map: ratios are made here from metabolites" if ratio else _unknown(met)
            return Quantity(refused=why, said_by=keyword)
        if quality is None and metabolite is None:
            return None
        if quality:
            return Quantity(quality=quality, of=metabolite, unit=unit, said_by="site rule", by_site=True)
        return Quantity(metabolite=metabolite, unit=unit, said_by="site rule", by_site=True)
    return None


def _unknown(name: str) -> str:
    return f"metabolite map, but “{name}” is no metabolite this node knows: add an alias to the site rule"
