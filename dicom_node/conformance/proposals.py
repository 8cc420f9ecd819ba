"""What the node proposes on associations that it initiates, for each of its real-world activities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pydicom.uid import (
    UID,
    AdvancedBlendingPresentationStateStorage,
    BasicTextSRStorage,
    ComprehensiveSRStorage,
    EnhancedMRImageStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    ParametricMapStorage,
    PseudoColorSoftcopyPresentationStateStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    SpatialRegistrationStorage,
)
from pynetdicom import DEFAULT_TRANSFER_SYNTAXES
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from dicom_node.commitment import PUSH_MODEL
from dicom_node.destinations import Kind
from dicom_node.rungs import LABEL_MAP

Role = Literal["SCU", "SCP"]

_EVERY = tuple(UID(u) for u in DEFAULT_TRANSFER_SYNTAXES)
_LITTLE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
ANATOMY = (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)

# The SOP class of each kind of object that the node makes.
_CLASS_OF: Mapping[str, UID] = {
    "MR": MRImageStorage,
    "PM": ParametricMapStorage,
    "SEG": SegmentationStorage,
    "SC": SecondaryCaptureImageStorage,
    "SR": ComprehensiveSRStorage,
    "REG": SpatialRegistrationStorage,
    "KO": KeyObjectSelectionDocumentStorage,
    "PR": PseudoColorSoftcopyPresentationStateStorage,
}


@dataclass(frozen=True)
class Proposal:
    """One presentation context of an activity; ``negotiated``: by SCP/SCU Role Selection (PS3.7 D.3.3.4)."""

    activity: str
    sop_class: UID
    syntaxes: tuple[UID, ...]
    role: Role = "SCU"
    negotiated: bool = False


def made() -> Mapping[str, UID]:
    """SOP classes of the objects that the node makes, by kind."""
    return {kind: _CLASS_OF[kind] for kind in get_args(Kind)}


def sent() -> Sequence[UID]:
    """SOP classes that go to destinations: of results, of their other forms, and of notes about them."""
    asked_for = (LABEL_MAP, EnhancedMRImageStorage)
    others = (AdvancedBlendingPresentationStateStorage, EnhancedSRStorage, BasicTextSRStorage)
    return (*made().values(), *asked_for, *others)


def proposals() -> Sequence[Proposal]:
    """All presentation contexts that the node may propose."""
    return tuple(_proposals())


def _proposals() -> Iterator[Proposal]:
    yield Proposal("Verify a destination", UID(Verification), _EVERY)
    for sop_class in sent():
        for syntax in _LITTLE:
            yield Proposal("Send results", sop_class, (syntax,))
    yield Proposal("Send results", SecondaryCaptureImageStorage, (RLELossless,))
    yield Proposal("Ask for storage commitment", PUSH_MODEL, _LITTLE)
    yield Proposal("Query what a destination keeps", UID(StudyRootQueryRetrieveInformationModelFind), _EVERY)
    yield Proposal("Ask the archive for counts", UID(StudyRootQueryRetrieveInformationModelFind), _EVERY)
    yield Proposal("Fetch anatomy by C-MOVE", UID(StudyRootQueryRetrieveInformationModelMove), _EVERY)
    yield Proposal("Fetch anatomy by C-GET", UID(StudyRootQueryRetrieveInformationModelGet), _EVERY)
    for sop_class in ANATOMY:
        yield Proposal("Fetch anatomy by C-GET", sop_class, _EVERY, "SCP", negotiated=True)
    yield Proposal("Report storage commitment", PUSH_MODEL, _LITTLE, "SCP", negotiated=True)
