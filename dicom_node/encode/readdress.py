"""References of an object to what a destination got: what went in a lesser form is named as that."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydicom import Dataset

from dicom_node.uids import result_uid

from .headers import file_meta
from .planes import Reference, position_of
from .references import instance_item, series_items

_GROUP = "125007"  # Measurement Group
_SEGMENT = "121191"  # Referenced Segment
_SOURCE_SERIES = "121232"  # Source Series for Segmentation


@dataclass(frozen=True)
class Went:
    """What went instead of one object: another, (``slices``) an image for each of its planes, or nothing.

    ``layers``: which of ``references`` has a segment of it, by number; empty: the first has all.
    """

    references: tuple[Reference, ...] = ()
    slices: bool = False
    layers: Mapping[int, int] = field(default_factory=dict)


# Which planes, counted from 0, a segment reaches: by UID of the segmentation and number.
Reached = Mapping[tuple[str, int], Collection[int]]


def reached_planes(
    segmentation: Dataset, positions: Sequence[tuple[str, ...]]
) -> dict[tuple[str, int], set[int]]:
    """By the segmentation's UID and segment number: indices into ``positions`` (as written) of its planes."""
    index = {position: k for k, position in enumerate(positions)}
    found: dict[tuple[str, int], set[int]] = {}
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        k = index.get(position_of(frame))
        number = int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        if k is not None:
            found.setdefault((str(segmentation.SOPInstanceUID), number), set()).add(k)
    return found


def plane_positions(multiframe: Dataset) -> list[tuple[str, ...]]:
    """Image Position (Patient) of each frame, as written."""
    frames = multiframe.PerFrameFunctionalGroupsSequence
    return [position_of(f) for f in frames]


def readdressed(d: Dataset, went: Mapping[str, Went], reached: Reached) -> Dataset:
    """``d`` with every reference to a key of ``went`` (SOP Instance UIDs) turned to what went instead.

    An object of its own, for its content is another. A value of a report that was read in a map of which
    slices went refers to those that its segment reaches (TID 300 allows several images); where that is not
    known, to none. Of what did not go at all nothing is said; figures stay.
    """
    named = sorted(named_in(d) & set(went))
    out = Dataset()
    out.update(copy.deepcopy(d))
    used: dict[str, set[int]] = {}
    if "ContentSequence" in out:
        _in_content(out, went, reached, None, used)
    _in_evidence(out, went, used)
    _in_presented(out, went)
    _in_sources(out, went)
    _in_common_references(out, went)
    parts = [uid for name in named for uid in (name, *(r.sop_instance for r in went[name].references[:1]))]
    out.SOPInstanceUID = result_uid("names what went", str(d.SOPInstanceUID), *parts)
    out.SeriesInstanceUID = result_uid("names what went", str(d.SeriesInstanceUID), *parts)
    out.file_meta = file_meta(out)
    return out


def named_in(d: Dataset) -> set[str]:
    """SOP Instance UIDs that ``d`` refers to, but for earlier results and for what it lies on."""
    found = {str(i.ReferencedSOPInstanceUID) for i in d.get("SourceImageSequence", ())}
    for series in _presented(d):
        found |= {str(i.ReferencedSOPInstanceUID) for i in series.ReferencedImageSequence}
    for item in _below(d):
        found |= {str(r.ReferencedSOPInstanceUID) for r in item.get("ReferencedSOPSequence", ())}
    for study in d.get("CurrentRequestedProcedureEvidenceSequence", ()):
        for series in study.ReferencedSeriesSequence:
            found |= {str(r.ReferencedSOPInstanceUID) for r in series.ReferencedSOPSequence}
    return found


def is_about_what_goes(d: Dataset, went: Mapping[str, Went]) -> bool:
    """Whether any of what ``d`` selects goes; of a presentation state, any of each series that it shows."""
    presented = [{str(i.ReferencedSOPInstanceUID) for i in s.ReferencedImageSequence} for s in _presented(d)]
    return all(
        any(uid not in went or went[uid].references for uid in named) for named in presented or [named_in(d)]
    )


def _presented(d: Dataset) -> Iterator[Dataset]:
    """Of a presentation state, each item that names images of a series (PS3.3 C.11.11, C.11.14)."""
    if d.get("Modality") == "PR":
        for blended in (d, *d.get("AdvancedBlendingSequence", ())):
            for item in (blended, *blended.get("ReferencedSeriesSequence", ())):
                if "ReferencedImageSequence" in item:
                    yield item


def _in_presented(d: Dataset, went: Mapping[str, Went]) -> None:
    for item in _presented(d):
        images: list[Reference | Dataset] = []
        for image in item.ReferencedImageSequence:
            other = went.get(str(image.ReferencedSOPInstanceUID))
            images += [image] if other is None else other.references
        named = dict.fromkeys(r for r in images if isinstance(r, Reference))
        for r in named:
            item.SeriesInstanceUID = r.series
        kept = [i for i in images if isinstance(i, Dataset)]
        item.ReferencedImageSequence = [*kept, *(instance_item(r) for r in named)]


def _below(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _below(child)


def _in_content(
    item: Dataset,
    went: Mapping[str, Went],
    reached: Reached,
    planes: Collection[int] | None,
    used: dict[str, set[int]],
) -> None:
    """``planes``: those that the segment of the group around ``item`` reaches."""
    if _concept(item) == _GROUP:
        planes = _planes_of(item, reached)
    kept: list[Dataset] = []
    for child in item.ContentSequence:
        if "ContentSequence" in child:
            _in_content(child, went, reached, planes, used)
        uid = str(child.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) if _names_one(child) else ""
        if uid not in went:
            kept.append(child)
            continue
        other = went[uid]
        chosen = _chosen(other, child.ReferencedSOPSequence[0], planes)
        used.setdefault(uid, set()).update(chosen)
        for instance, references in _by_instance(other.references[k] for k in chosen).items():
            again = copy.deepcopy(child)
            there = again.ReferencedSOPSequence[0]
            there.ReferencedSOPClassUID, there.ReferencedSOPInstanceUID = references[0].sop_class, instance
            frames = [r.frame for r in references if r.frame is not None]
            if frames:
                there.ReferencedFrameNumber = frames if len(frames) > 1 else frames[0]
            kept.append(again)
    if _concept(item) == _GROUP and _SEGMENT not in map(_concept, kept):
        kept = _without_segment(item, kept)
    if kept:
        item.ContentSequence = kept
    else:
        del item.ContentSequence


def _by_instance(references: Iterable[Reference]) -> dict[str, list[Reference]]:
    """An instance is named once, with those of its frames that are meant."""
    found: dict[str, list[Reference]] = {}
    for r in references:
        found.setdefault(r.sop_instance, []).append(r)
    return found


def _chosen(other: Went, named: Dataset, planes: Collection[int] | None) -> list[int]:
    """Which references of ``other`` stand for what ``named`` refers to."""
    if other.slices:
        return sorted(planes or ())
    return [other.layers.get(int(named.get("ReferencedSegmentNumber", 0)), 0)] if other.references else []


def _without_segment(group: Dataset, items: Sequence[Dataset]) -> list[Dataset]:
    """``items`` of a group by TID 1411, which demands a segment, as one by TID 1501, which has none."""
    for template in group.get("ContentTemplateSequence", ()):
        template.TemplateIdentifier = "1501"
    return [i for i in items if _concept(i) != _SOURCE_SERIES]


def _names_one(item: Dataset) -> bool:
    return bool(item.get("ReferencedSOPSequence"))


def _planes_of(group: Dataset, reached: Reached) -> Collection[int] | None:
    for child in group.ContentSequence:
        if _concept(child) == _SEGMENT:
            r = child.ReferencedSOPSequence[0]
            return reached.get((str(r.ReferencedSOPInstanceUID), int(r.ReferencedSegmentNumber)))
    return None


def _concept(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence", ())
    return str(names[0].get("CodeValue", "")) if names else ""


def _in_evidence(d: Dataset, went: Mapping[str, Went], used: Mapping[str, set[int]]) -> None:
    """All that the content names, and nothing else (PS3.3 C.17.2.3)."""
    studies = d.get("CurrentRequestedProcedureEvidenceSequence", ())
    for study in studies:
        kept = []
        for series in study.ReferencedSeriesSequence:
            others = []
            for r in series.ReferencedSOPSequence:
                uid = str(r.ReferencedSOPInstanceUID)
                if uid not in went:
                    others.append(r)
                elif chosen := sorted(used.get(uid, ())):
                    kept.append(_series([went[uid].references[k] for k in chosen]))
            if others:
                series.ReferencedSOPSequence = others
                kept.append(series)
        study.ReferencedSeriesSequence = kept
    if studies:
        named = [study for study in studies if study.ReferencedSeriesSequence]
        d.CurrentRequestedProcedureEvidenceSequence = named
        if not named:
            del d.CurrentRequestedProcedureEvidenceSequence


def _series(references: Sequence[Reference]) -> Dataset:
    d = Dataset()
    d.SeriesInstanceUID = references[0].series
    d.ReferencedSOPSequence = [instance_item(rs[0]) for rs in _by_instance(references).values()]
    return d


def _in_sources(d: Dataset, went: Mapping[str, Went]) -> None:
    if "SourceImageSequence" not in d:
        return
    sources = []
    for item in d.SourceImageSequence:
        other = went.get(str(item.ReferencedSOPInstanceUID))
        for r in (None,) if other is None else other.references:
            again = copy.deepcopy(item)
            if r is not None:
                again.ReferencedSOPClassUID, again.ReferencedSOPInstanceUID = r.sop_class, r.sop_instance
            sources.append(again)
    d.SourceImageSequence = sources


def _in_common_references(d: Dataset, went: Mapping[str, Went]) -> None:
    """Of a map or an Advanced Blending Presentation State (PS3.3 C.12.2); ours are of this study."""
    kept: list[Dataset] = []
    others: dict[str, dict[str, Reference]] = {}
    for item in d.get("ReferencedSeriesSequence", ()):
        if "ReferencedInstanceSequence" in item:
            stays = []
            for r in item.ReferencedInstanceSequence:
                other = went.get(str(r.ReferencedSOPInstanceUID))
                if other is None:
                    stays.append(r)
                for x in other.references if other is not None else ():
                    others.setdefault(x.series, {})[x.sop_instance] = x
            if not stays:
                continue
            item.ReferencedInstanceSequence = stays
        kept.append(item)
    if kept or others:
        d.ReferencedSeriesSequence = [*kept, *series_items(others)]
