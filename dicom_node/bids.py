"""Results as a BIDS derivatives data set: names, sidecars, description.

sub-<id>/ses-<id>/mrs/sub-<id>_ses-<id>_res-sr_desc-<map>_mrsi.nii.gz          maps and ratios, with .json
sub-<id>/ses-<id>/anat/sub-<id>_ses-<id>_res-sr_label-lesion_desc-<map>_mask.nii.gz     lesions, with .json
dicom/<session>/*.dcm  reports/<session>.json                                  beside BIDS, in .bidsignore

Source: Brain Imaging Data Structure 1.10, "Derivatives": common data types, imaging data types (``res``,
``desc``, ``label``, ``mask``). Its schema has no rule for derived spectroscopy: maps are named by its general
pattern for volumes, and listed in .bidsignore too.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom import Dataset

from .series import text_of

VERSION = "1.10.0"
_NAME = "mrsi-sr-node"
_IGNORED = "dicom\nreports\n*_mrsi.*\n"
_README = """# Super-resolved MRSI maps

Made by mrsi-sr-node. Research use: not a medical device, no result may be the basis of a diagnosis.

`*_res-sr_desc-<map>_mrsi.nii.gz` are metabolite maps (units in the sidecar) and the ratios HGG and TCN on
the super-resolved grid, `*_label-lesion_desc-<map>_mask.nii.gz` the metabolic lesion by each. `dicom/` holds
the same results as DICOM objects, `reports/` how each came to be.
"""
_RESOLUTION = "super-resolved grid of the spectroscopy: see SpacingMillimetres and Method"


@dataclass(frozen=True)
class Session:
    """Labels of one session, letters and digits only (BIDS 1.10, "Entities")."""

    subject: str
    session: str = ""

    def __str__(self) -> str:
        return "_".join(self.folder.parts)

    @property
    def folder(self) -> Path:
        """sub-<id>[/ses-<id>]"""
        subject = Path(f"sub-{self.subject}")
        return subject / f"ses-{self.session}" if self.session else subject


def label(text: str) -> str:
    """``text`` as a label. What had to be left out goes into a digest, so that two texts stay two labels."""
    kept = re.sub(r"[^0-9A-Za-z]", "", re.sub(r"^(sub|ses)-", "", text))
    if kept == re.sub(r"^(sub|ses)-", "", text) and kept:
        return kept
    return kept + hashlib.sha256(text.encode()).hexdigest()[:6]


def session_of(header: Dataset) -> Session:
    """Subject by Patient ID; session by Study Date, and four characters for two studies of a day."""
    study = text_of(header, "StudyInstanceUID")
    apart = hashlib.sha256(study.encode()).hexdigest()[:4]
    date = re.sub(r"\D", "", text_of(header, "StudyDate"))[:8]
    return Session(label(text_of(header, "PatientID") or study), f"{date}{apart}")


def session_in(results: Path) -> Session:
    """The session that a folder of results (dicom/…) is of."""
    first = min(results.rglob("*.dcm"))
    wanted = ["PatientID", "StudyInstanceUID", "StudyDate", "SpecificCharacterSet"]
    return session_of(pydicom.dcmread(first, stop_before_pixels=True, specific_tags=list(wanted)))


def target(session: Session, file: Path) -> Path:
    """Where in a data set a file of results (nifti/…, dicom/…, report.json) belongs."""
    if file.parts[0] == "nifti":
        name = file.name.removesuffix(".nii.gz")
        if name.startswith("lesion_"):
            of = f"res-sr_label-lesion_desc-{label(name.removeprefix('lesion_'))}_mask"
            return session.folder / "anat" / f"{session}_{of}.nii.gz"
        return session.folder / "mrs" / f"{session}_res-sr_desc-{label(name)}_mrsi.nii.gz"
    if file.name == "report.json":
        return Path("reports") / f"{session}.json"
    return Path("dicom") / str(session) / file.name


def sidecar(session: Session, file: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    """What the JSON file beside a volume of ``report`` says."""
    name = file.name.removesuffix(".nii.gz")
    versions = report.get("versions", {})
    said: dict[str, Any] = {
        "Description": f"{name}, super-resolved from MR spectroscopic imaging",
        "Resolution": {"sr": _RESOLUTION},
        "SpacingMillimetres": report.get("spacing_mm"),
        "Method": report.get("method"),
        "MethodRequested": report.get("method_requested"),
        "ModelSHA256": versions.get("model") or None,
        "SettingsSHA256": versions.get("settings"),
        "SoftwareName": _NAME,
        "SoftwareVersion": versions.get(_NAME),
        "ContentQualification": "RESEARCH",
        "SourceSeries": [
            {"name": s["uid"], "role": s["role"]}
            for s in report.get("series", ())
            if s.get("role") not in ("other", "ours", "spectra")
        ],
        "Warnings": list(report.get("warnings", ())),
    }
    if name.startswith("lesion_"):
        of = name.removeprefix("lesion_")
        lesion = report.get("lesions", {}).get(of, {})
        said |= {"Description": f"Metabolic lesion by {of}", "Type": "Lesion"}
        said |= {"Threshold": lesion.get("threshold"), "ThresholdRule": lesion.get("rule")}
        said |= {"VolumeMillilitres": lesion.get("volume_ml")}
        said |= {"Sources": [f"bids::{target(session, Path('nifti', f'{of}.nii.gz'))}"]}
    else:
        said |= {"Map": name, "Units": report.get("units", {}).get(name)}
    return {k: v for k, v in said.items() if v is not None}


def description() -> dict[str, Any]:
    """dataset_description.json"""
    version = importlib.metadata.version(_NAME)
    return {
        "Name": "Super-resolved MRSI maps",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": _NAME, "Version": version, "Description": "MRSI super-resolution"}],
    }


def begin(dataset: Path) -> None:
    """Description, README.md and .bidsignore of a data set, where they are missing."""
    dataset.mkdir(parents=True, exist_ok=True)
    files = {
        "dataset_description.json": json.dumps(description(), indent=1) + "\n",
        "README.md": _README,
        ".bidsignore": _IGNORED,
    }
    for name, content in files.items():
        if not (dataset / name).exists():
            _put(dataset / name, content)


def is_ours(dataset: Path) -> bool:
    """Whether ``dataset`` is a data set that was begun by this project, and may be added to."""
    try:
        said = json.loads((dataset / "dataset_description.json").read_text())
        return any(g.get("Name") == _NAME for g in said["GeneratedBy"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def arrange(results: Path, dataset: Path, session: Session | None = None) -> Session:
    """Move a folder of results (dicom/, nifti/, report.json) into a data set; what lies there is replaced.

    ``session``: else that of the results' own header.
    """
    begin(dataset)
    session = session or session_in(results)
    report = json.loads((results / "report.json").read_text())
    for path in sorted(p for p in results.rglob("*") if p.is_file()):
        file = path.relative_to(results)
        if file.parts[0] not in ("dicom", "nifti", "report.json"):
            continue
        to = dataset / target(session, file)
        to.parent.mkdir(parents=True, exist_ok=True)
        if file.parts[0] == "nifti":
            _put(
                sidecar_path(to),
                json.dumps(sidecar(session, file, report), indent=1, ensure_ascii=False) + "\n",
            )
        shutil.move(path, to)
    return session


def sidecar_path(volume: Path) -> Path:
    """The JSON file beside a volume."""
    return volume.with_name(volume.name.removesuffix(".nii.gz") + ".json")


def _put(path: Path, content: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(content, encoding="utf-8")
    part.replace(path)
