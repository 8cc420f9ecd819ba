"""The many spellings of a metabolite, and what else a label says: quality map, ratio, several at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .series import QualityKind

# Canonical spelling -> the spellings met, upper case, without spaces, "+", "-" and "_".
_SPELLINGS: dict[str, str] = {
    "NAA": r"NAA|NACETYLASPARTATE",
    "NAAG": r"NAAG|NACETYLASPARTYLGLUTAMATE",
    "tNAA": r"T(OTAL)?NAA|NAANAAG|NAAGNAA",
    "Cr": r"CR",
    "PCr": r"PCR|PHOSPHOCREATINE",
    "tCr": r"TCR|CRE|(T(OTAL)?)?CREATINE|CRPCR|PCRCR",
    "GPC": r"GPC|GLYCEROPHOSPHO(RYL)?CHOLINE",
    "PCh": r"PCHO?|PHOSPHO(RYL)?CHOLINE",
    "tCho": r"T?CHO|(T(OTAL)?)?CHOLINE|GPCPCHO?|PCHO?GPC",
    "Ins": r"M?INS|MI|MYOINS|(M|MYO)?INOSITOL",
    "Glu": r"GLU|L?GLUTAMATE",
    "Gln": r"GLN|L?GLUTAMINE",
    "Glx": r"GLX|GLUGLN|GLNGLU",
    "2HG": r"[DL]?2O?HG|HG2|[DL]?2?HYDROXYGLUTARATE",
    "GSH": r"GSH|GLUTATHIONE",
    "GABA": r"GABA",
    "Gly": r"GLY|GLYCINE",
    "Tau": r"TAU|TAURINE",
    "Lac": r"LAC|LACTATE",
    "Lip": r"LIP|LIPIDS?",
}
METABOLITES: tuple[str, ...] = tuple(_SPELLINGS)

# Words that also mean other things in a series description ("5 MINS", "CR", "MI"): they count only
# beside a word of spectroscopy, or alone.
_AMBIGUOUS = frozenset({"CR", "CRE", "MI", "INS", "MINS", "LAC", "LIP", "TAU", "GLY", "PCH", "PCR"})

_CONTEXT = frozenset(
    [
        "AMP",
        "AMPLITUDE",
        "AREA",
        "CONC",
        "CONCENTRATION",
        "CONCENTRATIONS",
        "CSI",
        "EPSI",
        "HEIGHT",
        "LCM",
        "LCMODEL",
        "MAP",
        "MAPS",
        "METABOLITE",
        "METABOLITES",
        "MRS",
        "MRSI",
        "OSPREY",
        "PEAK",
        "QUANT",
        "SIGNAL",
        "SPECTROSCOPY",
    ]
)
_QUALITY_WORDS: dict[str, QualityKind] = {
    **dict.fromkeys(("CRLB", "CRLBS", "CRB", "SD", "%SD", "SD%", "STD", "%CRLB", "CRLB%"), "crlb"),
    "SNR": "snr",
    **dict.fromkeys(("FWHM", "LINEWIDTH", "LW"), "linewidth"),
}
_RATIO_WORDS = frozenset({"HGG", "TCN", "CNI", "RATIO", "ZSCORE"})
_RATIO_JOINED = re.compile(r"(T?NAA|T?CHO|T?CR|GLX|INS|LAC|2HG|GLN)(T?NAA|T?CHO|T?CR|GLU)")
_OVER = frozenset({"/", "TO", "OVER"})
_WORD = re.compile(r"[A-Z0-9%]+|[/()]")
_BARRIERS = frozenset("/()")  # a name does not run across these
_LONGEST_RUN = 4


@dataclass(frozen=True)
class Label:
    """What one piece of text says.

    ``metabolites``: those it names, each once. ``sure``: enough to call the thing a metabolite map;
    an ambiguous word ("CR") in unrelated text is not. ``percent``: a CRLB said to be in %.
    """

    metabolites: tuple[str, ...] = ()
    quality: QualityKind | None = None
    ratio: bool = False
    sure: bool = False
    percent: bool = False

    @property
    def metabolite(self) -> str | None:
        """The metabolite, if exactly one is named."""
        return self.metabolites[0] if len(self.metabolites) == 1 else None


def canonical(name: str, alias: Mapping[str, str] | None = None) -> str | None:
    """The one spelling of a metabolite's name ("GPC+PCh" -> "tCho"), or None if it is not one."""
    for met, meant in (alias or {}).items():
        if met.casefold() == name.strip().casefold():
            return meant
    joined = re.sub(r"[\s+_\-]", "", name.upper())
    for spelling, pattern in _SPELLINGS.items():
        if re.fullmatch(pattern, joined):
            return spelling
    return None


def quality_of(kind: str) -> QualityKind | None:
    """The quality map that an exporter's word for a kind of map means ("sd" -> "crlb"), or None."""
    return _QUALITY_WORDS.get(kind.strip().upper())


def read_label(text: str, alias: Mapping[str, str] | None = None) -> Label:
    """Read a series description, a comment, a code meaning or a file name.

    Words are matched whole, never inside others ("MI" is not in "MIP"), and runs of up to four words
    are tried together, so "GPC+PCh", "GPC PCh" and "2-HG" are one name. ``alias`` comes first.
    """
    meant = canonical(text, alias)
    if meant is not None:
        return Label(metabolites=(meant,), sure=True)
    words = _words(text)
    found: list[tuple[int, int, str]] = []  # first word, one past the last, metabolite
    ratio = False
    at = 0
    while at < len(words):
        for length in range(min(_LONGEST_RUN, len(words) - at), 0, -1):
            run = words[at : at + length]
            if _BARRIERS.intersection(run):
                continue
            meant = canonical("".join(run), alias)
            if meant is not None:
                found.append((at, at + length, meant))
            elif _RATIO_JOINED.fullmatch("".join(run)):
                ratio = True
            else:
                continue
            at += length - 1
            break
        at += 1
    ratio = ratio or _is_ratio(words, found)
    kinds = [_QUALITY_WORDS[w] for w in words if w in _QUALITY_WORDS]
    clear = [met for first, last, met in found if "".join(words[first:last]) not in _AMBIGUOUS]
    only_quality = bool(kinds) and all(w in _QUALITY_WORDS or w in _BARRIERS for w in words)
    context = any(w in _CONTEXT for w in words) or only_quality or bool(kinds and found)
    return Label(
        metabolites=tuple(dict.fromkeys(met for _, _, met in found)),
        quality=kinds[0] if kinds else None,
        ratio=ratio,
        sure=bool(clear) or context,
        percent=any("%" in w or w in ("PERCENT", "PCT") for w in words),
    )


def _words(text: str) -> list[str]:
    upper = text.upper()
    # "<name>peak ht metabolite map": SIVIC glues the metabolite to what was measured of its peak.
    upper = re.sub(r"(PEAK HT|AREA|LINE ?WIDTH|MAGNITUDE) METABOLITE MAP", r" \1 METABOLITE MAP", upper)
    upper = re.sub(r"\bS/NR?\b", "SNR", upper)
    upper = upper.replace("LINE WIDTH", "LINEWIDTH").replace("Z-SCORE", "ZSCORE").replace("% SD", "%SD")
    return _WORD.findall(upper)


def _is_ratio(words: list[str], found: list[tuple[int, int, str]]) -> bool:
    if any(w in _RATIO_WORDS for w in words):
        return True
    starts = {first for first, _, _ in found}

    def past_brackets(at: int) -> int:
        while at < len(words) and words[at] in "()":
            at += 1
        return at

    ends = (past_brackets(last) for _, last, _ in found)
    return any(end < len(words) and words[end] in _OVER and past_brackets(end + 1) in starts for end in ends)
