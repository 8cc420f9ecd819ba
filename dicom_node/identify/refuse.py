"""What is never taken as input, and why: decoys, pictures, spectra, our own results."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydicom import Dataset
from pydicom.uid import (
    UID,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    MRSpectroscopyStorage,
    ParametricMapStorage,
    RawDataStorage,
)

from dicom_node.config import IdentifyRules
from dicom_node.series import text_of, value_of

IMAGES = frozenset(
    {MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage, ParametricMapStorage}
)
SPECTRA_REASON = "spectra: maps expected from the quantification host"

_CSA_NON_IMAGE = "1.3.12.2.1107.5.9.1"
_SPECTRA = frozenset({MRSpectroscopyStorage, "1.3.46.670589.11.0.0.12.1", "1.3.46.670589.11.0.0.12.2"})
_SPECTROSCOPY_DATA = 0x56000020
_CSA_DATA = 0x7FE11010
_CSA_DATA_TYPE = 0x00291008

# Beginning of the SOP class's name -> words. The first that fits.
_OTHER_CLASSES = {
    "Secondary Capture": "secondary capture: a picture of a screen, not numbers",
    "Multi-frame Single Bit": "secondary capture: a picture of a screen, not numbers",
    "Multi-frame Grayscale": "secondary capture: a picture of a screen, not numbers",
    "Multi-frame True Color": "secondary capture: a colour picture of a screen, not numbers",
    "Segmentation": "segmentation: not an image or a metabolite map",
    "Label Map": "segmentation: not an image or a metabolite map",
    "Enhanced MR Color": "colour picture: its values are colours, not concentrations",
    "Real World Value": "real world value mapping without an image",
    "Key Object": "key object selection: points at images, is none",
    "Encapsulated": "document, not an image",
}
_IMAGE_TYPES = {
    "LOCALIZER": "localizer, for planning only",
    "REFERENCEIMAGE": "reference image of the spectroscopy: shows where the voxels lie, holds no map",
    "SPECTRUM": "picture of a spectrum, not a map",
    "MPR": "reformat (MPR) of another series",
    "CSA MPR": "reformat (MPR) of another series",
    "MPR THICK": "reformat (MPR) of another series",
    "REFORMATTED": "reformat of another series",
    "MIP": "projection (MIP) of another series",
    "CSAPARALLEL": "reformat of another series",
    "MIN IP": "projection of another series",
    "MINIP": "projection of another series",
    "MAX IP": "projection of another series",
    "PROJECTION IMAGE": "projection of another series",
    "SCREEN SAVE": "picture of a screen, not numbers",
}
_DESCRIPTIONS = (
    (r"localizer|localiser|\bloc\b|scout|survey|\bplan ?scan\b|3.?plane", "localizer, for planning only"),
    (r"\bmpr\b(?!.*mprage)|reformat", "reformat (MPR) of another series"),
    (r"\bm(in)?ip\b|projection", "projection (MIP) of another series"),
)
_DIXON = re.compile(r"(?i)^(water|fat|w|f|in.?phase|(out|opp).*phase|ip|op)\b")


def ours(header: Dataset, rules: IdentifyRules) -> str | None:
    """Our own results are never taken as input, whatever archive they come back from."""
    if text_of(header, "ManufacturerModelName") in rules.our_models:
        return "made by this node: never taken as input"
    number = text_of(header, "SeriesNumber")
    ours_by_name = text_of(header, "SeriesDescription").startswith(rules.our_models)
    if ours_by_name and number.isdigit() and int(number) >= rules.base_series:
        return "numbered and described as this node's own results: never taken as input"
    return None


def spectra(header: Dataset) -> bool:
    """Whether the instance holds raw spectra (facts: MR Spectroscopy, Siemens and Philips private)."""
    sop_class = text_of(header, "SOPClassUID")
    if sop_class == _CSA_NON_IMAGE:
        kind = str(header[_CSA_DATA_TYPE].value) if _CSA_DATA_TYPE in header else "SPEC"
        return kind.startswith("SPEC") and "PHYSIO" not in text_of(header, "ImageType")
    if sop_class in _SPECTRA or _SPECTROSCOPY_DATA in header:
        return True
    return _CSA_DATA in header and "SPEC" in str(header.get(_CSA_DATA_TYPE, ""))


def not_an_image(header: Dataset) -> str | None:
    """Why the SOP class cannot hold a map or anatomy, or None if it can."""
    sop_class = UID(text_of(header, "SOPClassUID"))
    if sop_class in IMAGES:
        return None
    if sop_class == _CSA_NON_IMAGE:
        return "Siemens private data without spectra"
    if sop_class == RawDataStorage:
        return "raw data: only the scanner that wrote it can read it"
    name = sop_class.name
    for beginning, words in _OTHER_CLASSES.items():
        if name.startswith(beginning):
            return words
    if name.endswith(("SR Storage", " SR")) or "Structured Report" in name:
        return "structured report: no image"
    if "Presentation State" in name:
        return "presentation state: how to show an image, is none"
    return f"{name or 'no SOP class'}: not an MR image or a Parametric Map"


def decoy(header: Dataset) -> str | None:
    """Why an image is none we can use (colour, localizer, reformat, picture), or None."""
    if text_of(header, "PhotometricInterpretation") == "PALETTE COLOR":
        return "colour picture (palette): its values are colours, not concentrations"
    photometric = text_of(header, "PhotometricInterpretation")
    if value_of(header, "SamplesPerPixel") == 3 or photometric.startswith(("RGB", "YBR")):
        return "colour picture (RGB): its values are colours, not concentrations; export the map as numbers"
    for value in image_type(header):
        if value in _IMAGE_TYPES:
            return _IMAGE_TYPES[value]
    description = text_of(header, "SeriesDescription").replace("_", " ")
    for pattern, words in _DESCRIPTIONS:
        if re.search(pattern, description, re.IGNORECASE):
            return words
    if image_type(header)[2:3] in (("PHASE MAP",), ("P",), ("PHASE",)):
        return "phase image"
    return None


def image_type(header: Dataset) -> tuple[str, ...]:
    """Image Type, upper case, () if absent."""
    value = value_of(header, "ImageType") or ()
    return tuple(str(v).upper() for v in ((value,) if isinstance(value, str) else value))


def dixon(descriptions: Iterable[str]) -> str | None:
    """The Dixon component that every Metabolite Map Description names (WATER, FAT, …), or None.

    Philips fills this attribute for Dixon images too: alone it proves nothing.
    """
    said = list(descriptions)
    if said and all(_DIXON.match(d) for d in said):
        return " and ".join(sorted(set(said)))
    return None
