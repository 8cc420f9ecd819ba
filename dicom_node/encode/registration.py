"""Spatial Registration: where anatomy was taken to lie, for whoever lays it over the maps (PS3.3 A.39.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom import Dataset
from pydicom.uid import SpatialRegistrationStorage
from pydicom.valuerep import format_number_as_ds

from dicom_node import codes
from sr_core import Affine

from .encoded import EncodedObject
from .headers import document_header, identify_single
from .planes import reference_to
from .production import REGISTRATION_SERIES, Production, long_string
from .references import add_common_references, all_map_sources, anatomy_sources, instance_item, unique

_ROLE = "REG anatomy"
# Decimal strings keep about as much; below it is dust of an inverse.
_DIGITS = 12


def spatial_registration(production: Production) -> EncodedObject | None:
    """The motions that anatomy was brought onto the maps by; None if none was moved, or none has headers.

    The registered frame is that of the maps. An item names the images that were moved and, if they
    lie in one frame of their own, that frame; its matrix takes their patient coordinates to those of
    the maps (C.20.2.1.1): the inverse of ``RigidMotion.matrix``. Another item names the maps, at rest.
    """
    moved = [
        (m.contrast, image.grid.frame_of_reference, headers, _inverse(m.matrix))
        for m in production.result.motions
        if m.matrix is not None
        and (image := production.source.acquisition.image_of(m.contrast)) is not None
        and (headers := anatomy_sources(m.contrast, production.source))
    ]
    maps = all_map_sources(production.source)
    if not moved or not maps:
        return None
    frame = production.planes.frame_of_reference
    matrices: dict[str, list[Affine]] = {}
    for _, own, _, matrix in moved:
        matrices.setdefault(own, []).append(matrix)

    items = [_item(maps, np.eye(4, dtype=np.float64), frame, "Metabolite maps: at rest")]
    for contrast, own, headers, matrix in moved:
        # A whole frame has moved only if everything in it moved together, and it is not the maps' own.
        together = all(np.allclose(matrix, other) for other in matrices[own])
        named = own if own != frame and together else None
        items.append(_item(headers, matrix, named, f"{contrast} to metabolite maps"))

    d = document_header(production, placed=True)
    d.SOPClassUID = SpatialRegistrationStorage
    d.Modality = "REG"
    d.ContentLabel = "ANATOMY_TO_MAPS"
    d.ContentDescription = "Anatomy to metabolite maps"
    d.ContentCreatorName = "MRSI-SR^Node"
    d.RegistrationSequence = items
    references = [reference_to(h) for h in unique(h for hs in (maps, *(m[2] for m in moved)) for h in hs)]
    add_common_references(d, references, production.study_uid)
    identify_single(d, production, _ROLE, REGISTRATION_SERIES, "anatomy to maps")
    return EncodedObject(d, "REG", "REG_anatomy")


def _item(headers: Sequence[Dataset], matrix: Affine, frame: str | None, words: str) -> Dataset:
    inner = Dataset()
    inner.FrameOfReferenceTransformationMatrixType = "RIGID"
    inner.FrameOfReferenceTransformationMatrix = [
        str(format_number_as_ds(round(float(x), _DIGITS) + 0.0)) for x in matrix.ravel()
    ]
    transform = Dataset()
    transform.MatrixSequence = [inner]
    transform.RegistrationTypeCodeSequence = [codes.item(codes.CONTENT_BASED_ALIGNMENT)]
    transform.FrameOfReferenceTransformationComment = long_string(words)
    item = Dataset()
    if frame:
        item.FrameOfReferenceUID = frame
    item.ReferencedImageSequence = [instance_item(reference_to(h)) for h in headers]
    item.MatrixRegistrationSequence = [transform]
    return item


def _inverse(matrix: Affine) -> Affine:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)
