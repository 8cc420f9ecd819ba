"""What Parametric Map and Segmentation share: identity, references and geometry over highdicom's frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom_node import codes

from .headers import common_header, identify_single
from .planes import ParentSeries, Reference, position_of, reference_to
from .production import Production
from .references import add_common_references, source_item, unique


def construction(production: Production, parent: ParentSeries) -> dict[str, Any]:
    """Arguments that highdicom's constructors want and that ``finished`` replaces by the true ones."""
    return {
        "source_images": parent.skeletons,
        "series_instance_uid": "2.25.1",
        "series_number": 1,
        "sop_instance_uid": "2.25.2",
        "instance_number": 1,
        "manufacturer": "placeholder",
        "manufacturer_model_name": "placeholder",
        "software_versions": ["placeholder"],
        "device_serial_number": "placeholder",
        "content_creator_name": "MRSI-SR^Node",
    }


def finished(
    built: Dataset,
    production: Production,
    parent: ParentSeries,
    *,
    role: str,
    number: int,
    tail: str,
    derivation: Code,
    purpose: Code,
    sources: Sequence[Dataset],
    of: Sequence[Reference] = (),
) -> Dataset:
    """``built`` as a plain data set with our identity, references and the parent's very geometry.

    Each frame refers to the parent's instance in its plane; the whole refers to ``sources`` and
    to the objects of ours that it is ``of``.
    """
    d = Dataset()
    d.update(built)
    d.update(common_header(production))
    d.FrameOfReferenceUID = parent.planes.frame_of_reference or d.FrameOfReferenceUID
    identify_single(d, production, role, number, tail)

    shared = d.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = list(parent.planes.orientation)
    measures = shared.PixelMeasuresSequence[0]
    measures.PixelSpacing = list(parent.planes.pixel_spacing)
    measures.SliceThickness = measures.SpacingBetweenSlices = parent.planes.slice_spacing
    _refer_to_parent(d, parent, derivation, purpose)

    true_sources = [*of, *(reference_to(h) for h in unique(sources))]
    if true_sources:
        d.SourceImageSequence = [source_item(r, codes.SOURCE_IMAGE, same_place=False) for r in true_sources]
    elif "SourceImageSequence" in d:
        del d.SourceImageSequence
    del d.ReferencedSeriesSequence
    add_common_references(d, [*parent.references, *true_sources], production.study_uid)

    organization = production.uid(f"dimensions {role}")
    d.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for index in d.DimensionIndexSequence:
        index.DimensionOrganizationUID = organization
    return d


def _refer_to_parent(d: Dataset, parent: ParentSeries, derivation: Code, purpose: Code) -> None:
    planes = plane_numbers(parent)
    for frame in d.PerFrameFunctionalGroupsSequence:
        k = planes[position_of(frame)]
        item = Dataset()
        item.DerivationCodeSequence = [codes.item(derivation)]
        item.SourceImageSequence = [source_item(parent.references[k], purpose, same_place=True)]
        frame.DerivationImageSequence = [item]


def plane_numbers(parent: ParentSeries) -> Mapping[tuple[str, ...], int]:
    """Plane index by Image Position (Patient) as written."""
    return {position: k for k, position in enumerate(parent.planes.positions)}
