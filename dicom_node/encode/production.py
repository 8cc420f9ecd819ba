"""What all objects of one study share while they are made: inputs, identity, the moment, the maps."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.sr.coding import Code

from dicom_node import codes
from dicom_node.config import OutputRules
from dicom_node.errors import BadObject
from dicom_node.source import SourceStudy
from dicom_node.uids import result_uid
from sr_core import Acquisition, Metabolite, Ratio, SuperResolved, Unit, Volume

from .planes import Planes, planes_of

# Offsets from the base series number, one block per kind of object.
ANATOMY_SERIES = 0
DERIVED_MR_SERIES = 1
FUSED_SERIES = 101
PARAMETRIC_MAP_SERIES = 201
SEGMENTATION_SERIES = 301
REGISTRATION_SERIES = 351
MEASUREMENT_SERIES = 401
SUMMARY_SERIES = 501
UNCERTAINTY_SERIES = 601
QUALITY_SERIES = 701
PRESENTATION_SERIES = 751
KEY_OBJECT_SERIES = 801

_LONG_STRING = 64
_SHORT_TEXT = 1024
_PLAIN = str.maketrans(
    {
        "×": "x",
        "≥": ">=",
        "≤": "<=",
        "σ": "SD",
        "µ": "u",
        "μ": "u",
        "–": "-",
        "—": "-",
        "·": "*",
        "²": "2",
        "°": " deg",
    }
)


@dataclass(frozen=True, eq=False)
class MapToEncode:
    """A metabolite or ratio map under its one name, with the place it always has among the series."""

    of: Metabolite | Ratio
    values: Volume
    unit: Unit
    explanation: str
    label: str
    rank: int

    @property
    def name(self) -> str:
        return str(self.of)

    @property
    def quantity(self) -> Code:
        return codes.quantity(self.of)


@dataclass(frozen=True, eq=False)
class Production:
    """One study on its way to objects."""

    result: SuperResolved
    source: SourceStudy
    rules: OutputRules
    made_at: datetime
    study_uid: str
    planes: Planes
    maps: tuple[MapToEncode, ...]
    identity: tuple[str, ...]

    @classmethod
    def of(cls, result: SuperResolved, source: SourceStudy, rules: OutputRules) -> Production:
        """Everything that is the same for all objects of this study."""
        study_uid = str(source.header.StudyInstanceUID)
        frame = result.grid.frame_of_reference or str(source.header.get("FrameOfReferenceUID", ""))
        how = result.provenance
        return cls(
            result=result,
            source=source,
            rules=rules,
            made_at=datetime.now(),
            study_uid=study_uid,
            planes=planes_of(result.grid, frame or result_uid("frame of reference", study_uid)),
            maps=tuple(_maps(result)),
            identity=(
                _inputs_digest(source, study_uid) + (f" retake {source.retakes}" if source.retakes else ""),
                how.method_used,
                how.model_hash,
                how.settings_hash,
                how.software,
            ),
        )

    def uid(self, role: str, *parts: str) -> str:
        """The UID of ``role``: the same whenever the same inputs meet the same model and settings."""
        return result_uid(role, *self.identity, *parts)

    def map_named(self, name: str) -> MapToEncode | None:
        """The map ``name``, or None."""
        return next((m for m in self.maps if m.name == name), None)

    def makes_map(self, name: str) -> bool:
        """Whether the map ``name`` becomes a Parametric Map."""
        wanted = self.rules.parametric_maps
        return wanted == "all" or name in wanted

    def series_number(self, offset: int) -> int:
        return self.rules.base_series + offset

    def description(self, tail: str) -> str:
        """A series description of at most 64 characters that keeps ``tail`` whole."""
        tail = f" {long_string(tail)}"
        return long_string(self.rules.model_name)[: _LONG_STRING - len(tail)].rstrip() + tail

    def derivation(self, what: str, *remarks: str) -> str:
        """How ``what`` came to be, in sentences (Derivation Description, at most 1024 characters)."""
        how = self.result.provenance
        factor = "x".join(str(f) for f in how.factor)
        sentences = [
            f"{what} super-resolved {factor} (slice, row, column) by {how.method_used}"
            + (f", guided by {' and '.join(how.guides)}" if how.guides else "")
            + ". Computed, not acquired; research use.",
            *remarks,
        ]
        if how.registration:
            sentences.append(f"Anatomy: {how.registration}")
        return short_text(" ".join(sentences))

    @property
    def algorithm_family(self) -> Code:
        """CID 7162: learned, or not."""
        learned = bool(self.result.provenance.model_hash)
        return codes.ARTIFICIAL_INTELLIGENCE if learned else codes.HISTOGRAM_ANALYSIS

    @property
    def software_versions(self) -> list[str]:
        """What made the objects, most general first; each at most 64 characters."""
        how = self.result.provenance
        versions = [how.software, how.method_used]
        if how.model_hash:
            versions.append(f"model {how.model_hash[:16]}")
        versions.append(f"settings {how.settings_hash[:16]}")
        return [long_string(v) for v in versions]


def plain(text: str) -> str:
    """``text`` in ASCII, which every Specific Character Set can carry beside the patient's own."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    return decomposed.encode("ascii", "ignore").decode("ascii")


def short_text(text: str) -> str:
    """``text`` in ASCII and in the 1024 characters of VR ST."""
    return plain(text)[:_SHORT_TEXT].strip()


def long_string(text: str) -> str:
    """``text`` in ASCII and in the 64 characters of VR LO, where a backslash would begin a second value."""
    return plain(text).replace("\\", "/")[:_LONG_STRING].strip()


def display_window(
    values: NDArray[np.float32] | NDArray[np.uint16], brain: NDArray[np.bool_]
) -> tuple[float, float]:
    """Window centre and width, in the unit of ``values``, from 0 to the 99.5th percentile in the brain."""
    inside = values[brain & (values > 0)]
    top = float(np.percentile(inside, 99.5)) if inside.size else 1.0
    top = float(f"{top:.4g}")
    return top / 2, top


def _maps(result: SuperResolved) -> Iterator[MapToEncode]:
    """All maps of ``result``, ratios first. Raises BadObject for a value that is not finite."""
    for m in _all_maps(result):
        bad = int(np.count_nonzero(~np.isfinite(m.values)))
        if bad:
            raise BadObject(f"{m.name} map has {bad} values that are not finite")
        yield m


def _all_maps(result: SuperResolved) -> Iterator[MapToEncode]:
    ranks: dict[str, int] = {name: i for i, name in enumerate([*Ratio, *Metabolite])}
    for r in result.ratios:
        explanation, label = _ratio_words(r.ratio, {m.metabolite for m in result.maps})
        yield MapToEncode(r.ratio, r.values, r.unit, explanation, label, ranks[r.ratio])
    for m in result.maps:
        explanation = f"{m.metabolite} concentration"
        yield MapToEncode(m.metabolite, m.values, m.unit, explanation, m.metabolite, ranks[m.metabolite])


def _ratio_words(ratio: Ratio, measured: set[Metabolite]) -> tuple[str, str]:
    """Explanation and label; a metabolite that stands in for another is named in both."""
    if ratio == Ratio.HGG:
        return "(2HG+Gln)/Glu", ratio
    if Metabolite.NAA in measured and not measured & {Metabolite.TNAA, Metabolite.NAAG}:
        return "tCho/NAA (NAA stands in for tNAA)", f"{ratio} (tCho/NAA)"
    return "tCho/tNAA", ratio


def _inputs_digest(source: SourceStudy, study_uid: str) -> str:
    """sha256 over the source's UIDs and every voxel that went into super-resolution."""
    h = hashlib.sha256(study_uid.encode())
    for headers in (source.map_headers, source.anatomy_headers):
        for uid in sorted({str(d.SOPInstanceUID) for ds in headers.values() for d in ds}):
            h.update(uid.encode() + b"\0")
    for what, array in _arrays(source.acquisition):
        h.update(f"\0{what} {array.shape} {array.dtype.str}\0".encode())
        h.update(np.ascontiguousarray(array).data)
    return h.hexdigest()


def _arrays(a: Acquisition) -> Iterator[tuple[str, NDArray[np.generic]]]:
    for m in a.maps:
        yield f"map {m.metabolite} {m.unit} {m.grid.frame_of_reference}", m.values
        yield "grid", m.grid.affine
        if m.crlb_percent is not None:
            yield "crlb", m.crlb_percent
    for image in a.anatomy:
        yield f"image {image.contrast} {image.grid.frame_of_reference}", image.values
        yield "grid", image.grid.affine
    for what, values in (("snr", a.snr), ("linewidth", a.linewidth_ppm), ("mask", a.brain_mask)):
        if values is not None:
            yield what, values
    yield "matrix", np.asarray(a.acquired_matrix or (), dtype=np.int64)
