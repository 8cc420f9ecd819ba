"""A corrected result names the one that it takes the place of, object by object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom_node import codes

from .encoded import EncodedObject
from .planes import reference_to
from .production import short_text
from .references import instance_item

# No context group of the standard has a purpose of reference for this (CID 7201 extends).
SUPERSEDED = Code("SUPERSEDED", "99MRSISR", "Earlier result that this one supersedes")

Earlier = Callable[[str], Dataset | None]


def superseding(objects: Iterable[EncodedObject], earlier: Earlier) -> Iterator[EncodedObject]:
    """``objects``, each with a reference to the earlier result of its name, if ``earlier`` has its header.

    An object that is the very same again keeps as it is.
    """
    for o in objects:
        before = earlier(o.name)
        if before is not None and before.SOPInstanceUID != o.dataset.SOPInstanceUID:
            refer_to_predecessor(o.dataset, before)
        yield o


def refer_to_predecessor(d: Dataset, before: Dataset) -> None:
    """A document says so in Predecessor Documents (PS3.3 C.17.2), an image in Referenced Image (C.12.4).

    Registrations and key objects have no place for it: what goes with them does.
    """
    if d.Modality == "SR":
        d.PredecessorDocumentsSequence = [_hierarchical(before)]
    if "Rows" not in d:
        return
    item = instance_item(reference_to(before))
    item.PurposeOfReferenceCodeSequence = [codes.item(SUPERSEDED)]
    d.ReferencedImageSequence = [*d.get("ReferencedImageSequence", ()), item]
    if "ReferencedSeriesSequence" in d:  # last: viewers take the first one for the volume to lay over
        d.ReferencedSeriesSequence = [*d.ReferencedSeriesSequence, _series(before)]
    said = d.get("DerivationDescription", "")
    d.DerivationDescription = short_text(f"Supersedes an earlier result of this study. {said}")


def predecessors_of(image: Dataset) -> set[str]:
    """SOP Instance UIDs of the earlier results that ``image`` says it supersedes."""
    found = set()
    for item in image.get("ReferencedImageSequence", ()):
        purposes = item.get("PurposeOfReferenceCodeSequence", ())
        if any((p.CodeValue, p.CodingSchemeDesignator) == SUPERSEDED[:2] for p in purposes):
            found.add(str(item.ReferencedSOPInstanceUID))
    return found


def _hierarchical(before: Dataset) -> Dataset:
    """Hierarchical SOP Instance Reference Macro (PS3.3 C.17.2.1)."""
    study, series = Dataset(), Dataset()
    series.SeriesInstanceUID = before.SeriesInstanceUID
    series.ReferencedSOPSequence = [instance_item(reference_to(before))]
    study.StudyInstanceUID = before.StudyInstanceUID
    study.ReferencedSeriesSequence = [series]
    return study


def _series(before: Dataset) -> Dataset:
    d = Dataset()
    d.SeriesInstanceUID = before.SeriesInstanceUID
    d.ReferencedInstanceSequence = [instance_item(reference_to(before))]
    return d
