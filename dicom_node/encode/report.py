"""Measurements as a Comprehensive SR by TID 1500: lesion by lesion, map by map, unverified."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import highdicom as hd
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ParametricMapStorage, SegmentationStorage

from dicom_node import codes
from dicom_node.uids import result_uid
from sr_core import Lesion, Metabolite, Ratio

from .encoded import EncodedObject
from .headers import document_header, identify_single, reference_of
from .measurements import figures_of, volume_ml
from .planes import ParentSeries, Reference
from .production import MEASUREMENT_SERIES, MapToEncode, Production, long_string, plain, short_text
from .segmentation import NOT_MEASURED, segment_numbers, tracking

_Group = (
    hd.sr.MeasurementsAndQualitativeEvaluations | hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
)

_ROLE = "SR measurements"
# Maps that lesions are looked for in, if they can be made.
_LESION_MAPS = (Ratio.HGG, Ratio.TCN, Metabolite.HG2)


def measurement_report(production: Production, parent: ParentSeries) -> EncodedObject:
    """Volume, mean, maximum, 5th, 50th and 95th percentile of each lesion in each map (TID 1500, 1411).

    A lesion refers to its segment, a value to the Parametric Map it was read in. A map without a
    lesion, and one that could not be made, each have a group that says so: absence is a finding, and
    nobody has to guess it from a report that is missing.
    """
    segmentation = reference_of(production, "SEG lesion", SegmentationStorage)
    segments = dict(segment_numbers(production)) if production.rules.segmentation else {}
    maps = [parametric_map(production, m) for m in production.maps if production.makes_map(m.name)]
    found = {lesion.source: lesion for lesion in production.result.lesion}
    names = [str(name) for name in _LESION_MAPS] + [n for n in found if n not in _LESION_MAPS]

    groups: list[_Group] = []
    for name in names:
        lesion = found.get(name)
        if lesion is None:
            there = production.map_named(name) is not None
            because = "not asked for" if there else "no such map could be made of what was received"
            groups.append(_not_assessed(production, name, because))
        elif not _has_limit(lesion):
            groups.append(_not_assessed(production, name, "no limit could be set"))
        elif not lesion.mask.any():
            groups.append(_absent(production, lesion))
        else:
            segment = _segment(segmentation, segments[name], parent) if name in segments else None
            groups.append(_present(production, lesion, segment))
    if NOT_MEASURED in segments:
        groups.append(_unmeasured(production, _segment(segmentation, segments[NOT_MEASURED], parent)))

    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device_observer(production)),
        procedure_reported=codes.MRI,
        imaging_measurements=groups,
        title=hd.sr.CodedConcept("126000", "DCM", "Imaging Measurement Report"),
        language_of_content_item_and_descendants=hd.sr.LanguageOfContentItemAndDescendants(
            hd.sr.CodedConcept.from_code(codes.ENGLISH)
        ),
    )
    referenced = [*([segmentation] if segments else []), *maps, parent.references[0]]
    built = hd.sr.ComprehensiveSR(
        evidence=[evidence(r) for r in referenced],
        content=content[0],
        series_instance_uid="2.25.1",
        series_number=1,
        sop_instance_uid="2.25.2",
        instance_number=1,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    d = Dataset()
    d.update(built)
    d.update(document_header(production))
    identify_single(d, production, _ROLE, MEASUREMENT_SERIES, "measurements")
    return EncodedObject(d, "SR", "SR_measurements")


def parametric_map(production: Production, m: MapToEncode) -> Reference:
    """The Parametric Map of ``m``."""
    return reference_of(production, f"PM {m.name}", ParametricMapStorage)


def _present(production: Production, lesion: Lesion, segment: hd.sr.ReferencedSegment | None) -> _Group:
    measured = [
        hd.sr.Measurement(codes.VOLUME, volume_ml(production, lesion.mask), codes.CUBIC_CENTIMETRE),
        hd.sr.Measurement(codes.REGIONS, len(lesion.regions), codes.NO_UNIT),
        *_limit(production, lesion),
        *_values(production, lesion),
    ]
    return _group(production, lesion.source, codes.FOUND, measured, _rule(production, lesion), segment)


def _absent(production: Production, lesion: Lesion) -> _Group:
    words = (
        f"No region above the limit was found by {lesion.source} ({_rule(production, lesion)}). "
        "This says nothing of tumour below the limit, or where nothing was measured."
    )
    return _group(production, lesion.source, codes.NOT_FOUND, [*_limit(production, lesion)], words)


def _not_assessed(production: Production, name: str, because: str) -> _Group:
    words = f"No lesion was looked for by {name}: {because}. This is not a finding of absence."
    return _group(production, name, codes.NOT_ASSESSED, [], words)


def _unmeasured(production: Production, segment: hd.sr.ReferencedSegment) -> _Group:
    volume = volume_ml(production, production.result.quality.not_measured)
    uid, identifier = tracking(production, NOT_MEASURED)
    group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=uid, identifier=identifier),
        referenced_segment=segment,
        finding_type=codes.NOT_MEASURED,
        finding_category=codes.SPATIAL_CONCEPT,
        finding_sites=[hd.sr.FindingSite(codes.BRAIN)],
        algorithm_id=_algorithm(production),
        measurements=[hd.sr.Measurement(codes.VOLUME, volume, codes.CUBIC_CENTIMETRE)],
    )
    return _commented(
        group,
        "Voxels of the brain without a trusted measured value in at least one map: background there does not "
        "mean normal.",
    )


def _group(
    production: Production,
    key: str,
    assessment: Code,
    measured: list[hd.sr.Measurement],
    words: str,
    segment: hd.sr.ReferencedSegment | None = None,
) -> _Group:
    """One measurement group of a lesion map: with a segment by TID 1411, without by TID 1501."""
    uid, identifier = tracking(production, key)
    shared: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(uid=uid, identifier=identifier),
        "finding_sites": [hd.sr.FindingSite(codes.BRAIN)],
        "algorithm_id": _algorithm(production),
        "measurements": measured,
        "qualitative_evaluations": [hd.sr.QualitativeEvaluation(codes.FINDING_ASSESSMENT, assessment)],
    }
    if assessment == codes.FOUND:
        shared |= {"finding_type": codes.LESION, "finding_category": codes.ABNORMAL_STRUCTURE}
    if segment is None:
        return _commented(hd.sr.MeasurementsAndQualitativeEvaluations(**shared), words)
    return _commented(
        hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **shared), words
    )


def _commented(group: _Group, words: str) -> _Group:
    group[0].ContentSequence.append(
        hd.sr.TextContentItem(codes.COMMENT, short_text(words), hd.sr.RelationshipTypeValues.CONTAINS)
    )
    return group


def _values(production: Production, lesion: Lesion) -> Iterator[hd.sr.Measurement]:
    for f in figures_of(production, lesion):
        images = []
        if production.makes_map(f.map.name):
            r = parametric_map(production, f.map)
            images = [hd.sr.SourceImageForMeasurement(r.sop_class, r.sop_instance)]
        for derivation, value in f.values.items():
            yield hd.sr.Measurement(
                f.map.quantity,
                value,
                codes.unit(f.map.unit),
                method=codes.read_in(f.map.of),
                derivation=derivation,
                referenced_images=images or None,
            )


def _limit(production: Production, lesion: Lesion) -> Iterator[hd.sr.Measurement]:
    m = production.map_named(lesion.source)
    if m is not None:
        yield hd.sr.Measurement(codes.LIMIT, lesion.threshold, codes.unit(m.unit), method=codes.read_in(m.of))


def _has_limit(lesion: Lesion) -> bool:
    return math.isfinite(lesion.threshold) and lesion.threshold > 0


def _rule(production: Production, lesion: Lesion) -> str:
    m = production.map_named(lesion.source)
    return plain(lesion.rule if m is None else f"{lesion.rule}; {lesion.source} is {m.explanation}")


def _segment(segmentation: Reference, number: int, parent: ParentSeries) -> hd.sr.ReferencedSegment:
    return hd.sr.ReferencedSegment(
        segmentation.sop_class,
        segmentation.sop_instance,
        number,
        source_series=hd.sr.SourceSeriesForSegmentation(parent.references[0].series),
    )


def _algorithm(production: Production) -> hd.sr.AlgorithmIdentification:
    how = production.result.provenance
    parameters = [f"method {how.method_used}", f"settings {how.settings_hash}"]
    if how.model_hash:
        parameters.append(f"weights {how.model_hash}")
    return hd.sr.AlgorithmIdentification(
        name=long_string(production.rules.model_name),
        version=production.software_versions[0],
        parameters=[plain(p) for p in parameters],
        family=production.algorithm_family,
        manufacturer=long_string(production.rules.manufacturer),
    )


def device_observer(production: Production) -> hd.sr.ObserverContext:
    """Who observed: this node, as a device."""
    rules = production.rules
    who = tuple(long_string(w) for w in (rules.model_name, rules.manufacturer, rules.device_serial))
    return hd.sr.ObserverContext(
        observer_type=hd.sr.CodedConcept("121007", "DCM", "Device"),
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=result_uid("device", *who),
            name=who[0],
            manufacturer_name=who[1],
            model_name=who[0],
            serial_number=who[2],
        ),
    )


def evidence(r: Reference) -> Dataset:
    """As much of a referenced instance as highdicom's constructors look at."""
    d = Dataset()
    d.SOPClassUID, d.SOPInstanceUID = r.sop_class, r.sop_instance
    d.SeriesInstanceUID, d.StudyInstanceUID = r.series, r.study
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
        setattr(d, keyword, "")
    for keyword in ("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"):
        setattr(d, keyword, "")
    return d
