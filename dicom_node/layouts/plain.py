"""This project's own layout of a NIfTI case.

<case>/T1*.nii.gz  FLAIR*.nii.gz                 optional anatomy
<case>/maps/<Metabolite>.nii.gz                  at least one
<case>/quality/<Metabolite>_crlb.nii.gz, snr, linewidth or fwhm, brainmask
"""

from __future__ import annotations

import re
from pathlib import Path

from dicom_node.errors import UnsuitableInput
from dicom_node.names import canonical, read_label
from sr_core import Metabolite

from .files import add_anatomy, niftis, stem
from .study import Content, begin

NAME = "NIfTI case"


def root_of(folder: Path) -> Path | None:
    """``folder``, if it has ``maps/`` with at least one NIfTI file."""
    return folder if niftis(folder / "maps") else None


def content_of(folder: Path, root: Path) -> Content:
    """The case in ``folder``. Raises UnsuitableInput for names that cannot be placed."""
    content = begin(folder)
    for path in niftis(root / "maps"):
        name = stem(path)
        metabolite = canonical(name)
        item = content.item(path, "named by its file")
        if metabolite is None and read_label(name.replace("_", " ")).ratio:
            content.ignored[item.file] = "ratio map: ratios are made here from metabolites"
        elif metabolite is None:
            known = ", ".join(Metabolite)
            raise UnsuitableInput(f"maps/{path.name}: “{name}” is no metabolite; there are: {known}")
        else:
            content.add_map(metabolite, item)
    for path in niftis(root / "quality"):
        name = stem(path)
        metabolite = canonical(re.sub(r"(?i)[_-]crlb$", "", name)) if name.lower().endswith("crlb") else None
        item = content.item(path, "named by its file")
        if metabolite:
            content.crlb[metabolite] = item
        elif name.lower() in ("snr", "brainmask"):
            content.quality[name.lower()] = item
        elif name.lower() in ("linewidth", "fwhm"):
            content.quality["linewidth"] = item
        else:
            words = "a quality map is called <Metabolite>_crlb, snr, linewidth, fwhm or brainmask"
            content.ignored[item.file] = words
    add_anatomy(content, folder)
    return content
