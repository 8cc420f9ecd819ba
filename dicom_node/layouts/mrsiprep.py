"""One session of MRSIPrep: what it takes in (``derivatives/mrsi-orig``) or gives out (``mrsi/orig``).

<session>/.../sub-<id>[_ses-<id>]_space-orig_met-<metabolites>_desc-signal_mrsi.nii.gz
         .../..._met-<metabolites>_desc-crlb_mrsi.nii.gz  ..._desc-{snr,fwhm,brainmask}_mrsi.nii.gz
<session>/anat/*_T1w.nii.gz *_FLAIR.nii.gz, or those of the same session in the BIDS data set around it

<metabolites>: NAANAAG, GPCPCh, CrPCr, GluGln, Ins. CRLB in %, FWHM in ppm. Maps in another space are not
taken: they were resampled. Source: MRSIPrep 1.3, docs "Inputs" and "Output layout" (usage_basic.md).
"""

from __future__ import annotations

import re
from pathlib import Path

from dicom_node.errors import UnsuitableInput
from dicom_node.names import canonical

from .files import add_anatomy, niftis, stem
from .study import Content, begin

NAME = "MRSIPrep session"

_NAME = re.compile(
    r"(?P<session>sub-[A-Za-z0-9]+(?:_ses-[A-Za-z0-9]+)?)(?P<middle>(?:_[A-Za-z]+-[A-Za-z0-9]+)*?)"
    r"(?:_met-(?P<met>[A-Za-z0-9]+))?_desc-(?P<desc>\w+)_mrsi"
)
_MEASURED = (None, "orig", "mrsi")  # spaces in which voxels are those of the measurement
_DEEP = 4
_SESSION = re.compile(r"sub-([A-Za-z0-9]+)(?:_ses-([A-Za-z0-9]+))?")


def root_of(folder: Path) -> Path | None:
    """``folder``, if signal maps named as MRSIPrep names them lie in or under it."""
    return folder if any(m["desc"].startswith("signal") and m["met"] for _, m in _named(folder)) else None


def session_of(folder: Path) -> tuple[str, str] | None:
    """Subject and session labels that the maps in ``folder`` are named by, if all by the same."""
    found = {m["session"] for _, m in _named(folder)}
    match = _SESSION.fullmatch(found.pop()) if len(found) == 1 else None
    return (match[1], match[2] or "") if match else None


def content_of(folder: Path, root: Path) -> Content:
    """The session in ``folder``. Raises UnsuitableInput if there are several, or only resampled maps."""
    content = begin(folder)
    named = _named(root)
    sessions = sorted({m["session"] for _, m in named})
    if len(sessions) > 1:
        raise UnsuitableInput(
            f"{folder.name} holds {len(sessions)} sessions ({sessions[0]}, {sessions[1]}, …): name the "
            "folder of one, or run mrsi-node cohort on all"
        )
    if not content.stated.patient_id:
        subject = sessions[0].split("_")[0]
        content.stated = content.stated.model_copy(update={"patient_id": subject})
    for path, m in named:
        item = content.item(path, "named by its file")
        space = re.search(r"_space-([A-Za-z0-9]+)", m["middle"])
        metabolite = canonical(m["met"]) if m["met"] else None
        if (space[1] if space else None) not in _MEASURED:
            content.ignored[item.file] = "resampled: the maps as measured are needed (space-orig)"
        elif m["met"] and metabolite is None:
            content.ignored[item.file] = f"“{m['met']}” is no metabolite this node knows"
        elif metabolite and m["desc"] == "signal":
            content.add_map(metabolite, item)
        elif metabolite and m["desc"] == "crlb":
            content.crlb[metabolite] = item
        elif m["desc"] in ("snr", "brainmask") and not metabolite:
            content.quality[m["desc"]] = item
        elif m["desc"] == "fwhm" and not metabolite:
            content.quality["linewidth"] = item
        else:
            content.ignored[item.file] = "filtered or corrected: the signal map itself is used"
    if not content.maps:
        raise UnsuitableInput(
            f"{folder.name} has MRSIPrep's maps in other spaces only: those as measured "
            "(…_space-orig_met-…_desc-signal_mrsi.nii.gz) are needed"
        )
    _add_anatomy(content, folder, sessions[0])
    return content


def _named(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    """Files in and a little under ``folder`` whose names MRSIPrep would give its maps."""
    found = []
    level = [folder] if folder.is_dir() else []
    for _ in range(_DEEP):
        for place in level:
            matches = ((p, _NAME.fullmatch(stem(p))) for p in niftis(place) if stem(p).endswith("_mrsi"))
            found += [(p, m) for p, m in matches if m]
        level = [p for place in level for p in sorted(place.iterdir()) if p.is_dir() and p.name[0] != "."]
    return found


def _add_anatomy(content: Content, folder: Path, session: str) -> None:
    """T1w and FLAIR as scanned, in the session's own folder or in the data set that it is a derivative of."""
    add_anatomy(content, folder, frozenset(p for p in niftis(folder) if stem(p).endswith("_mrsi")))
    places = [folder / "anat"]
    if (around := folder.joinpath(*[".."] * (2 + session.count("_"))).resolve()).name == "derivatives":
        places.append(around.parent.joinpath(*session.split("_"), "anat"))
    for place in places:
        derived = frozenset(p for p in niftis(place) if re.search(r"_(space|desc)-", p.name))
        if derived != frozenset(niftis(place)):
            add_anatomy(content, place, derived)
