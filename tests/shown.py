"""A finished study in a node's own folder: received and decoded in earnest, super-resolved by formula.

What is shown of it is known beforehand: measured maps are ``builders.asymmetric``, results the phantom's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.config import IdentifyRules, OutputRules
from dicom_node.encode import encode_study
from dicom_node.intake import Incoming, Intake
from dicom_node.process import Case, _report, decode_case, identify_case
from dicom_node.source import SourceStudy
from dicom_node.spool import Spool, sha256_of
from dicom_node.store import Made, Store
from dicom_node.study import CaseKey, State
from sr_core import Contrast, Metabolite, SuperResolved
from tests import builders, phantom
from tests.doors import as_file, sqlite_in

METABOLITES = (
    Metabolite.TNAA, Metabolite.TCHO, Metabolite.GLU, Metabolite.GLN, Metabolite.HG2,
)  # fmt: skip


@dataclass(frozen=True)
class Finished:
    """A study that is DONE; ``folder`` is [storage] folder of its node."""

    folder: Path
    store: Store
    spool: Spool
    key: CaseKey
    study_uid: str
    source: SourceStudy
    result: SuperResolved
    files: dict[str, Path]  # of results, by name


def finished_study(
    folder: Path,
    orientation: builders.Orientation = "oblique",
    *,
    destinations: Sequence[str] = (),
    **rules: object,
) -> Finished:
    """Receive a study, make its results and record both, as the rooms of a node would."""
    folder.mkdir(parents=True, exist_ok=True)
    store, spool = Store(sqlite_in(folder)), Spool(folder / "spool")
    intake = Intake(spool, store)
    acquired = builders.acquisition(orientation, METABOLITES, anatomy=[Contrast.T1], quality=False)
    for d in builders.study(of=acquired):
        content = as_file(d)
        intake.accept(Incoming(content, str(d.SOPClassUID), str(d.SOPInstanceUID)), source="SCANNER")
    (key,) = (r.key for r in store.revisions_in(State.RECEIVING))
    store.complete(key, "nothing has come for a while")
    attempt = store.start(key).attempt

    case = Case({m.sop_uid: spool.path(m.path) for m in store.members(key)})
    identified = identify_case(case, IdentifyRules())
    store.identified(key, identified.findings)
    source = decode_case(case, identified, IdentifyRules())
    result = phantom.super_resolved(source)
    out = spool.result_folder(key.case, key.revision, attempt)
    (out / "dicom").mkdir()
    made, files = [], {}
    output = OutputRules(**{"fused_maps": (), "summary": False, **rules})
    for number, o in enumerate(encode_study(result, source, output)):
        path = out / "dicom" / f"{number:04d}-{o.name}.dcm"
        o.dataset.save_as(path, enforce_file_format=True)
        uids = (str(o.dataset.SOPInstanceUID), str(o.dataset.SOPClassUID))
        made.append(Made(spool.relative(path), o.kind, o.name, *uids, sha256_of(path)))
        files[o.name] = path
    report = out / "report.json"
    report.write_text(json.dumps(_report(identified, source, result, made, 1.0)))
    store.encoded(key, made, spool.relative(report), "digest", destinations)
    (study_uid,) = store.studies_of(key.case)
    return Finished(folder, store, spool, key, study_uid, source, result, files)
