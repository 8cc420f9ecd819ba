"""Metabolites, ratios, units and findings as coded concepts.

Standard codes where the standard has one (CID 4033, CID 7181, CID 7180), for a sum the code of the
peak it is read from, as CID 4033 means it (tNAA is coded as NAA; the label tells them apart). PubChem
compound numbers where it has none; our own scheme for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydicom import Dataset
from pydicom.sr.coding import Code

from sr_core import Metabolite, Ratio, Unit

SCHEME = "99MRSISR"
PUBCHEM = "PUBCHEM_CID"


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


def _own(value: str, meaning: str) -> Code:
    return Code(value, SCHEME, meaning)


def _pubchem(value: str, meaning: str) -> Code:
    return Code(value, PUBCHEM, meaning)


_QUANTITIES: Mapping[Metabolite | Ratio, Code] = {
    Metabolite.NAA: _sct("115391007", "N-acetylaspartate"),
    Metabolite.NAAG: _own("NAAG", "N-acetylaspartylglutamate"),
    Metabolite.TNAA: _sct("115391007", "N-acetylaspartate"),
    Metabolite.CR: _sct("14804005", "Creatine"),
    Metabolite.PCR: _own("PCR", "Phosphocreatine"),
    Metabolite.TCR: _sct("14804005", "Creatine"),
    Metabolite.GPC: _own("GPC", "Glycerophosphocholine"),
    Metabolite.PCH: _own("PCH", "Phosphocholine"),
    Metabolite.TCHO: _sct("65123005", "Choline"),
    Metabolite.INS: _sct("72164009", "Inositol"),
    Metabolite.GLU: _pubchem("33032", "L-glutamic acid"),
    Metabolite.GLN: _sct("25761002", "Glutamine"),
    Metabolite.GLX: _dcm("113080", "Glutamate and glutamine"),
    Metabolite.HG2: _pubchem("43", "2-hydroxyglutaric acid"),
    Metabolite.GSH: _pubchem("124886", "Glutathione"),
    Metabolite.GABA: _pubchem("119", "Gamma-aminobutyric acid"),
    Metabolite.GLY: _pubchem("750", "Glycine"),
    Metabolite.TAU: _sct("10944007", "Taurine"),
    Metabolite.LAC: _sct("83036002", "Lactate"),
    Metabolite.LIP: _sct("70106000", "Lipid"),
    Ratio.HGG: _own("HGG", "(2HG + glutamine) / glutamate ratio"),
    Ratio.TCN: _own("TCN", "Total choline / total NAA ratio"),
}

_UNITS: Mapping[Unit, Code] = {
    Unit.ARBITRARY: Code("[arb'U]", "UCUM", "arbitrary unit"),
    Unit.MMOL_PER_KG: Code("mmol/kg{WetWeight}", "UCUM", "millimoles per kg wet weight"),
    Unit.MMOL_PER_L: Code("mmol/L", "UCUM", "millimoles per liter"),
    Unit.RATIO: Code("{ratio}", "UCUM", "ratio"),
}

BACKGROUND = _dcm("125040", "Background")
BRAIN = _sct("12738006", "Brain")
ABNORMAL_STRUCTURE = _sct("49755003", "Morphologically Abnormal Structure")
# A threshold on metabolism finds a lesion; it does not name its histology.
LESION = _sct("52988006", "Lesion")
SPATIAL_CONCEPT = _sct("309825002", "Spatial and Relational Concept")
NOT_MEASURED = _own("NOTMEASURED", "Not measured or repaired")
FINDING_ASSESSMENT = _own("ABOVELIMIT", "Region at or above the metabolic limit")
FOUND = _own("REGIONFOUND", "Region above the limit")
NOT_FOUND = _own("NOREGION", "No region above the limit")
NOT_ASSESSED = _own("NOTASSESSED", "Not assessed")

MRI = Code("25056-3", "LN", "MRI unspecified body region")
ENGLISH = Code("en", "RFC5646", "English")
OF_INTEREST = _dcm("113000", "Of Interest")
COMMENT = _dcm("121106", "Comment")
VOLUME = _sct("118565006", "Volume")
HALF_WIDTH = _own("HALFWIDTH", "Half-width that holds the truth in 90 % of voxels")
NULL_SPACE_SHARE = _own("NULLSPACE", "Share of a value that no measurement backs")
GUIDANCE = _own("GUIDANCE", "Share of a value that comes of the anatomical image")
CRLB = _own("CRLB", "Cramer-Rao lower bound in percent of the value")
SNR = _own("SNR", "Signal-to-noise ratio of the spectrum")
LINEWIDTH = _own("LINEWIDTH", "Full width at half maximum of the spectral line")
LIMIT = _own("LIMIT", "Metabolic limit")
REGIONS = _own("REGIONS", "Number of connected regions")
MEAN = _sct("373098007", "Mean")
MAXIMUM = _sct("56851009", "Maximum")
MEDIAN = _sct("373099004", "Median")
PERCENTILE_5 = _sct("371888009", "Fifth percentile")
PERCENTILE_95 = _sct("371889001", "Ninety-fifth percentile")
CUBIC_CENTIMETRE = Code("cm3", "UCUM", "cubic centimeter")
PERCENT = Code("%", "UCUM", "percent")
PPM = Code("[ppm]", "UCUM", "parts per million")
NO_UNIT = Code("1", "UCUM", "no units")

METABOLITE_MAPS_FROM_SPECTROSCOPY = _dcm("113050", "Metabolite Maps from spectroscopy data")
SPATIAL_RESAMPLING = _dcm("113085", "Spatial resampling")
SEGMENTATION = _dcm("113076", "Segmentation")
SOURCE_IMAGE = _dcm("121322", "Source image for image processing operation")
SOURCE_FOR_SEGMENTATION = _dcm("121233", "Source image for segmentation")
ACQUISITION_EQUIPMENT = _dcm("109101", "Acquisition Equipment")
ARTIFICIAL_INTELLIGENCE = _dcm("123110", "Artificial Intelligence")
CONTENT_BASED_ALIGNMENT = _dcm("125024", "Image Content-based Alignment")
HISTOGRAM_ANALYSIS = _dcm("123105", "Histogram Analysis")


def quantity(of: Metabolite | Ratio) -> Code:
    """What the values of a map of ``of`` are (Quantity Definition, PS3.3 C.7.6.16.2.11)."""
    return _QUANTITIES[of]


def read_in(of: str) -> Code:
    """Measurement method: in which map a value was read. tNAA and NAA share a concept, not a map."""
    return _own(f"MAP_{of.upper()}", f"Value of the {of} map")


def unit(of: Unit) -> Code:
    """``of`` as a UCUM code (Measurement Units Code Sequence, CID 7181)."""
    return _UNITS[of]


def item(code: Code) -> Dataset:
    """``code`` as the one item of a code sequence (PS3.3 8.8-1)."""
    d = Dataset()
    d.CodeValue = code.value
    d.CodingSchemeDesignator = code.scheme_designator
    d.CodeMeaning = code.meaning
    return d


def private_codes() -> tuple[Code, ...]:
    """Every code of our own scheme, by value."""
    named = (c for c in globals().values() if isinstance(c, Code))
    found = {c.value: c for c in (*_QUANTITIES.values(), *named) if c.scheme_designator == SCHEME}
    return tuple(found[value] for value in sorted(found))


def schemes() -> Iterable[Dataset]:
    """Items of Coding Scheme Identification Sequence for the schemes a reader may not know."""
    own = Dataset()
    own.CodingSchemeDesignator = SCHEME
    own.CodingSchemeName = "mrsi-sr-node private codes"
    own.CodingSchemeResponsibleOrganization = "mrsi-sr-node"
    pubchem = Dataset()
    pubchem.CodingSchemeDesignator = PUBCHEM
    pubchem.CodingSchemeName = "PubChem Compound CID"
    pubchem.CodingSchemeResponsibleOrganization = "National Center for Biotechnology Information"
    return (own, pubchem)
