"""Key Object Selection: what to look at first (PS3.3 A.35.4, TID 2010)."""

from __future__ import annotations

import highdicom as hd
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node import codes

from .encoded import EncodedObject
from .fused import picture_of
from .headers import document_header, identify_single, reference_of
from .planes import Reference
from .production import KEY_OBJECT_SERIES, Production
from .report import device_observer, evidence

_ROLE = "KO results"


def key_objects(production: Production) -> EncodedObject | None:
    """The summary page, and of each colour series the slice with most of its lesion; None of neither."""
    chosen = list(_chosen(production))
    if not chosen:
        return None
    instances = [evidence(r) for r in chosen]
    for image in instances:
        image.Rows = image.Columns = 1  # by their presence highdicom tells an image
    built = hd.ko.KeyObjectSelectionDocument(
        evidence=instances,
        content=hd.ko.KeyObjectSelection(
            document_title=codes.OF_INTEREST,
            referenced_objects=instances,
            observer_device_context=device_observer(production),
            description="Summary of quality, and metabolic lesions where they are largest",
        ),
        series_instance_uid="2.25.1",
        series_number=1,
        sop_instance_uid="2.25.2",
        instance_number=1,
    )
    d = Dataset()
    d.update(built)
    d.update(document_header(production))
    identify_single(d, production, _ROLE, KEY_OBJECT_SERIES, "key objects")
    return EncodedObject(d, "KO", "KO_results")


def _chosen(production: Production) -> list[Reference]:
    rules, found = production.rules, []
    if rules.summary:
        found.append(reference_of(production, "SC summary", SecondaryCaptureImageStorage))
    for lesion in production.result.lesion:
        m = production.map_named(lesion.source)
        if m is not None and m.name in rules.fused_maps and lesion.mask.any():
            found.append(picture_of(production, m, int(lesion.mask.sum(axis=(1, 2)).argmax())))
    return found
