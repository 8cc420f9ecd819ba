"""A case's files -> results and a report: identify, decode, resolve, encode, check."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import pydicom
from pydicom import Dataset

import sr_core

from . import layouts, nifti
from .config import IdentifyRules, IntakeRules, ResolveRules, Settings
from .dciodvfy import SecondOpinion
from .decode import decode, decode_anatomy
from .encode import EncodedObject, Kind, checked, encode_study
from .encode.predecessors import Earlier, superseding
from .errors import BadConfiguration, NotDicom, UnsuitableInput
from .identify import IdentifiedSeries, Role, identify
from .quantify import quantify
from .source import SourceStudy
from .spool import sha256_of
from .store import Finding, Made
from .uids import result_uid
from .zips import Bounds, unpack

# pydicom warns of odd values by quoting them: those may be a patient's name or date of birth.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

USED = frozenset({Role.METABOLITE_MAP, Role.QUALITY_MAP, Role.T1, Role.FLAIR})

_SPECTROSCOPY_DATA, _CSA_DATA = 0x56000020, 0x7FE11010

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """The files of one case: DICOM instances by SOP Instance UID, or a folder in one of the layouts.

    ``quantified``: a folder of maps that were made of its spectra, in one of the layouts.
    """

    instances: Mapping[str, Path]
    nifti_folder: Path | None = None
    quantified: Path | None = None


@dataclass(frozen=True)
class Identified:
    """What each series of a case is; ``nothing`` says in words why no recipe matches, if none does."""

    series: tuple[IdentifiedSeries, ...]
    findings: tuple[Finding, ...]
    input_digest: str
    nothing: str | None


class NothingToDo(UnsuitableInput):
    """No recipe matches a case; ``findings`` say what each series was taken for."""

    def __init__(self, identified: Identified) -> None:
        super().__init__(identified.nothing)
        self.findings = identified.findings


@dataclass(frozen=True)
class Results:
    """Files made, in the order they are to be sent, the report that goes with them, and what they show."""

    made: tuple[Made, ...]
    report: dict[str, Any]
    result: sr_core.SuperResolved


@contextmanager
def opened(path: Path, rules: IntakeRules) -> Iterator[Case]:
    """As ``open_folder``, for a zip archive of DICOM files too, or a folder of them: unpacked meanwhile.

    Raises UnsuitableInput as ``open_folder`` does, or if an archive is broken or beyond its bounds.
    """
    archives = [path] if path.is_file() and path.suffix.lower() == ".zip" else []
    if path.is_dir() and layouts.recognise(path) is None:
        archives = sorted(p for p in path.iterdir() if p.suffix.lower() == ".zip" and p.is_file())
    if not archives:
        yield open_folder(path)
        return
    with TemporaryDirectory(prefix="mrsi-node-") as temporary:
        for number, archive in enumerate(archives):
            (Path(temporary) / str(number)).mkdir()
            unpack(archive, Path(temporary) / str(number), Bounds.of(rules))
        yield Case(_instances((Path(temporary), path), path.name))


def open_folder(folder: Path) -> Case:
    """A case on disk: DICOM, or in one of the layouts. Raises UnsuitableInput if ``folder`` is neither."""
    if not folder.is_dir():
        raise UnsuitableInput(f"{folder} is not a folder")
    if layouts.recognise(folder) is not None:
        return Case({}, folder)
    return Case(_instances((folder,), str(folder)))


def _instances(folders: Iterable[Path], name: str) -> dict[str, Path]:
    instances: dict[str, Path] = {}
    for path in (p for f in folders for p in sorted(f.rglob("*")) if p.is_file()):
        try:
            uid = str(_read(path, pixels=False, only=["SOPInstanceUID"]).get("SOPInstanceUID") or "")
        except NotDicom:
            continue
        if not uid:
            continue
        known = instances.setdefault(uid, path)
        if known != path and sha256_of(known) != sha256_of(path):
            raise UnsuitableInput(
                f"{known.name} and {path.name} have one SOP Instance UID but differ: which one is right?"
            )
    if not instances:
        raise UnsuitableInput(
            f"{name} holds neither DICOM files nor a case in a known layout: {layouts.KNOWN}"
        )
    return instances


def identify_case(case: Case, rules: IdentifyRules) -> Identified:
    """What each series is, and why. Raises NotDicom if an instance cannot be read any more."""
    if case.nifti_folder is not None:
        findings = [Finding(*row) for row in layouts.required(case.nifti_folder).describe()]
        return Identified((), tuple(findings), "", None)
    headers = [_read(path, pixels=False) for path in case.instances.values()]
    series = tuple(identify(headers, rules))
    findings = [Finding(s.uid, s.description, str(s.role), s.reason) for s in series]
    return Identified(series, tuple(findings), _digest(case, series), _nothing(series))


def with_maps(case: Case, identified: Identified, settings: Settings, home: Path) -> tuple[Case, Identified]:
    """A case that offers only spectra, with the maps that the site's own command makes of them.

    Any other case, or without a command, stays as it is. ``home``: where maps are kept for a later try.
    Raises as ``quantify``, and UnsuitableInput if the command's output is in no known layout.
    """
    spectra = [s for s in identified.series if s.role is Role.SPECTRA]
    if identified.nothing is None or not spectra or not settings.quantify.command:
        return case, identified
    instances = _headers(case)
    chosen = {s.uid for s in spectra}
    files = [case.instances[uid] for uid, h in instances.items() if str(h.SeriesInstanceUID) in chosen]
    anatomy = {
        str(s.role): [case.instances[uid] for part in s.parts for uid in part.sop_uids]
        for s in identified.series
        if s.role in (Role.T1, Role.FLAIR) and s.parts
    }
    maps = quantify(settings.quantify, files, anatomy, home)
    layout = layouts.recognise(maps)
    if layout is None:
        raise UnsuitableInput(f"what the [quantify] command wrote is not {layouts.KNOWN}")
    findings = (*identified.findings, *(Finding(*row) for row in layout.describe()))
    digest = hashlib.sha256(f"{identified.input_digest} {maps.name}".encode()).hexdigest()
    return replace(case, quantified=maps), Identified(identified.series, findings, digest, None)


def _decode_quantified(case: Case, identified: Identified, maps: Path, rules: IdentifyRules) -> SourceStudy:
    """Maps of the site's command, in the study and Frame of Reference of the spectra; anatomy as received."""
    chosen = {s.uid for s in identified.series if s.role is Role.SPECTRA}
    headers = [h for h in _headers(case).values() if str(h.SeriesInstanceUID) in chosen]
    header = headers[0]
    if not header.get("FrameOfReferenceUID"):
        header.FrameOfReferenceUID = result_uid("frame of reference", str(header.StudyInstanceUID))
    source = layouts.required(maps).study(header)
    acquisition = source.acquisition
    frame = acquisition.grid.frame_of_reference
    images, anatomy, warnings = decode_anatomy(
        identified.series, lambda sop_uid: _read(case.instances[sop_uid]), rules, frame
    )
    return replace(
        source,
        acquisition=replace(acquisition, anatomy=images or acquisition.anatomy),
        map_headers={str(m.metabolite): tuple(headers) for m in acquisition.maps},
        anatomy_headers=anatomy,
        warnings=("maps were made of the spectra by the site's own command", *source.warnings, *warnings),
    )


def _headers(case: Case) -> dict[str, Dataset]:
    """Headers of all instances, without pixels or spectra."""
    found = {uid: _read(path, pixels=False) for uid, path in case.instances.items()}
    for header in found.values():
        for data in (_SPECTROSCOPY_DATA, _CSA_DATA):
            header.pop(data, None)
    return found


def super_resolve(
    case: Case, identified: Identified, settings: Settings
) -> tuple[SourceStudy, sr_core.SuperResolved]:
    """A case decoded, and what comes of it. Raises UnsuitableInput, UnsuitableGeometry, BadConfiguration."""
    source = decode_case(case, identified, settings.input_rules)
    return source, _resolved(source, settings)


def _resolved(source: SourceStudy, settings: Settings) -> sr_core.SuperResolved:
    resolver = _resolver(settings.resolve)
    try:
        return resolver(source.acquisition)
    except sr_core.UnusableAcquisition as e:
        raise UnsuitableInput(str(e)) from e


def make_results(
    case: Case,
    identified: Identified,
    settings: Settings,
    folder: Path,
    progress: Progress = lambda _: None,
    retakes: int = 0,
    earlier: Earlier = lambda _: None,
) -> Results:
    """Everything a case yields, written under ``folder`` as dicom/, nifti/ and report.json.

    ``retakes``: how often its results were withdrawn; what was rejected once is not made again.
    ``earlier`` gives the header of the earlier result of a name, which the new one supersedes.
    Raises UnsuitableInput, UnsuitableGeometry, BadObject or BadConfiguration, each in words.
    """
    began = time.monotonic()
    progress("decode")
    source = replace(decode_case(case, identified, settings.input_rules), retakes=retakes)
    progress("super-resolve")
    result = _resolved(source, settings)
    progress("encode, check and write")
    objects = superseding(encode_study(result, source, settings.output), earlier)
    made = _write(checked(objects, result, source), result, folder, SecondOpinion(settings.gate))
    report = _report(identified, source, result, made, time.monotonic() - began)
    (folder / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return Results(made, report, result)


def _read(path: Path, *, pixels: bool = True, only: list[str] | None = None) -> Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=only)
    except FileNotFoundError as e:
        raise NotDicom(
            f"{path.name} is gone from the spool: its retention time is over; send it again"
        ) from e
    except Exception as e:  # pydicom raises many kinds on broken bytes
        raise NotDicom(f"{path.name} cannot be read as DICOM ({type(e).__name__})") from e


def decode_case(case: Case, identified: Identified, rules: IdentifyRules) -> SourceStudy:
    """Arrays and headers of an identified case. Raises UnsuitableInput or UnsuitableGeometry in words."""
    if case.nifti_folder is not None:
        return layouts.required(case.nifti_folder).study()
    if case.quantified is not None:
        return _decode_quantified(case, identified, case.quantified, rules)
    return decode(identified.series, lambda sop_uid: _read(case.instances[sop_uid]), rules)


def _resolver(rules: ResolveRules) -> sr_core.SuperResolver:
    chosen = rules.model_dump(exclude={"method", "model_dir", "fnlm"})
    try:
        settings = sr_core.Settings(**chosen, fnlm=sr_core.Fnlm(**rules.fnlm.model_dump()))
        return sr_core.load(rules.model_dir, rules.method, settings)
    except ValueError as e:
        raise BadConfiguration(f"[resolve]: {e}") from e


def _nothing(series: Sequence[IdentifiedSeries]) -> str | None:
    if any(s.role is Role.METABOLITE_MAP for s in series):
        return None
    reason = f"no metabolite map among {len(series)} series"
    spectra = next((s.reason for s in series if s.role is Role.SPECTRA), None)
    return f"{reason}; {spectra}" if spectra else reason


def _digest(case: Case, series: Sequence[IdentifiedSeries]) -> str:
    """sha256 over the bytes of all instances that are used: equal digests, equal results."""
    used = sorted(uid for s in series if s.role in USED for part in s.parts for uid in part.sop_uids)
    digest = hashlib.sha256()
    for uid in dict.fromkeys(used):
        digest.update(f"{uid} {sha256_of(case.instances[uid])}\n".encode())
    return digest.hexdigest()


def _write(
    objects: Iterable[EncodedObject], result: sr_core.SuperResolved, folder: Path, opinion: SecondOpinion
) -> tuple[Made, ...]:
    (folder / "dicom").mkdir(parents=True)
    (folder / "nifti").mkdir()
    made = []
    with ThreadPoolExecutor(1) as beside, opinion:  # compression leaves the interpreter free for DICOM
        volumes = beside.submit(nifti.write_result, result, folder / "nifti")
        for number, o in enumerate(objects):
            path = folder / "dicom" / f"{number:04d}-{o.name}.dcm"
            o.dataset.save_as(path, enforce_file_format=True)
            opinion.ask(o, path)
            uids = (str(o.dataset.SOPInstanceUID), str(o.dataset.SOPClassUID))
            made.append(Made(str(path.relative_to(folder)), o.kind, o.name, *uids, sha256_of(path)))
        for path in volumes.result():
            name = path.name.removesuffix(".nii.gz")
            made.append(Made(str(path.relative_to(folder)), "NIFTI", name, "", "", sha256_of(path)))
        opinion.conclude()
    return tuple(made)


def _report(
    identified: Identified,
    source: SourceStudy,
    result: sr_core.SuperResolved,
    made: Sequence[Made],
    seconds: float,
) -> dict[str, Any]:
    how = result.provenance
    return {
        "state": "DONE",
        "method": how.method_used,
        "method_requested": how.method_requested,
        "maps": [str(m.metabolite) for m in result.maps] + [str(r.ratio) for r in result.ratios],
        "units": {
            **{str(m.metabolite): str(m.unit) for m in result.maps},
            **{str(r.ratio): str(r.unit) for r in result.ratios},
        },
        "spacing_mm": [round(s, 4) for s in result.grid.spacing_mm],
        "lesions": {
            lesion.source: {
                "volume_ml": lesion.volume_ml,
                "mean": lesion.mean,
                "max": lesion.maximum,
                "threshold": lesion.threshold,
                "rule": lesion.rule,
                "regions": [vars(r) for r in lesion.regions],
            }
            for lesion in result.lesion
        },
        "series": [f.as_row() for f in identified.findings],
        "rejected_fraction": result.quality.rejected_fraction,
        "inpainted_fraction": result.quality.inpainted_fraction,
        "rejected_share": {str(m): share for m, share in result.quality.rejected_share.items()},
        "rejected_because": {str(q.metabolite): dict(q.reasons) for q in result.quality.maps},
        "uncertainty": _uncertainty(result),
        "likeness": _likeness(result),
        "anatomy": [
            {"contrast": str(m.contrast), "moved": m.matrix is not None, "guide": m.contrast in how.guides}
            for m in result.motions
        ],
        "guide": "+".join(how.guides) or None,
        "registration": how.registration,
        "steps": list(how.steps),
        "warnings": [*source.warnings, *how.warnings],
        "timings_s": {**how.timings_s, "total": seconds},
        "objects": {kind: sum(m.kind == kind for m in made) for kind in get_args(Kind)},
        "versions": {
            "mrsi-sr-node": importlib.metadata.version("mrsi-sr-node"),
            "model": how.model_hash,
            "settings": how.settings_hash,
            **{p: importlib.metadata.version(p) for p in ("torch", "highdicom", "pydicom", "numpy")},
        },
    }


def _uncertainty(result: sr_core.SuperResolved) -> dict[str, dict[str, float]]:
    """Map -> medians over the brain of its values and of their half-widths (90 %), in its unit."""
    if not result.brain.any():
        return {}
    doubts = {u.of: u.values for u in result.uncertainty if u.method.startswith("half-width")}
    return {
        str(m.metabolite): {
            "value": float(np.median(m.values[result.brain])),
            "half_width": float(np.median(doubts[str(m.metabolite)][result.brain])),
        }
        for m in result.maps
        if str(m.metabolite) in doubts
    }


def _likeness(result: sr_core.SuperResolved) -> dict[str, Any] | None:
    """How unlike clean studies the input is; None for one too small to be judged."""
    novelty = result.novelty
    if novelty is None:
        return None
    numbers = {"score": novelty.score, "threshold": novelty.threshold}
    return {**numbers, "unlike": novelty.is_unlike, "reason": novelty.reason}
