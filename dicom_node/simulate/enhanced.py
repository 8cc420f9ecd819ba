"""Functional groups of an Enhanced MR Image that holds a metabolite map (PS3.3 A.36.2.4)."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.valuerep import format_number_as_ds

from dicom_node.uids import result_uid
from sr_core import Grid, Shape

_FRAME_TYPE = ["DERIVED", "PRIMARY", "METABOLITE_MAP", "NONE"]
_FRAME_TYPE_ATTRIBUTES: dict[str, Any] = {
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
    "ComplexImageComponent": "MAGNITUDE",
    "AcquisitionContrast": "UNKNOWN",
}


def enhanced_groups(
    d: Dataset,
    grid: Grid,
    *,
    positions: Items[list[str]],
    orientation: list[str],
    label: str,
    code: Code | None,
    mapping: Dataset,
    transformation: tuple[float, float],
    acquired_matrix: Shape | None,
) -> None:
    """Give ``d`` the module attributes and functional groups of an enhanced metabolite map."""
    dimension = result_uid("dimension organization", str(d.SOPInstanceUID))
    _set(
        d,
        ImageType=_FRAME_TYPE,
        **_FRAME_TYPE_ATTRIBUTES,
        PresentationLUTShape="IDENTITY",
        LossyImageCompression="00",
        ContentQualification="RESEARCH",
        ApplicableSafetyStandardAgency="IEC",
        AcquisitionDateTime=f"{d.StudyDate}{d.SeriesTime}",
        ResonantNucleus="1H",
        NumberOfFrames=len(positions),
        AcquisitionContextSequence=Sequence(),
        DimensionOrganizationSequence=Sequence([_item(DimensionOrganizationUID=dimension)]),
        DimensionIndexSequence=Sequence(
            [
                _item(
                    DimensionOrganizationUID=dimension,
                    DimensionIndexPointer=Tag("InStackPositionNumber"),
                    FunctionalGroupPointer=Tag("FrameContentSequence"),
                )
            ]
        ),
        SharedFunctionalGroupsSequence=Sequence(
            [_shared(d, grid, orientation, label, code, mapping, transformation, acquired_matrix)]
        ),
        PerFrameFunctionalGroupsSequence=Sequence(
            [
                _item(
                    FrameContentSequence=_item(
                        StackID="1",
                        InStackPositionNumber=k + 1,
                        DimensionIndexValues=[k + 1],
                        FrameAcquisitionDateTime=f"{d.StudyDate}{d.SeriesTime}",
                        FrameReferenceDateTime=f"{d.StudyDate}{d.SeriesTime}",
                        FrameAcquisitionDuration=900000.0,
                    ),
                    PlanePositionSequence=_item(ImagePositionPatient=position),
                )
                for k, position in enumerate(positions)
            ]
        ),
    )


def _shared(
    d: Dataset,
    grid: Grid,
    orientation: list[str],
    label: str,
    code: Code | None,
    mapping: Dataset,
    transformation: tuple[float, float],
    acquired_matrix: Shape | None,
) -> Dataset:
    between, *in_plane = (format_number_as_ds(s) for s in grid.spacing_mm)
    slope, intercept = (format_number_as_ds(v) for v in transformation)
    brain = _item(CodeValue="12738006", CodingSchemeDesignator="SCT", CodeMeaning="Brain")
    metabolite = _item(MetaboliteMapDescription=label)
    if code is not None:
        coded = _item(
            CodeValue=code.value, CodingSchemeDesignator=code.scheme_designator, CodeMeaning=code.meaning
        )
        metabolite.MetaboliteMapCodeSequence = Sequence([coded])
    shared = _item(
        PixelMeasuresSequence=_item(
            PixelSpacing=in_plane, SliceThickness=between, SpacingBetweenSlices=between
        ),
        PlaneOrientationSequence=_item(ImageOrientationPatient=orientation),
        FrameAnatomySequence=_item(FrameLaterality="U", AnatomicRegionSequence=Sequence([brain])),
        PixelValueTransformationSequence=_item(
            RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US"
        ),
        FrameVOILUTSequence=_item(WindowCenter="2000", WindowWidth="4000"),
        RealWorldValueMappingSequence=mapping,
        MRImageFrameTypeSequence=_item(FrameType=_FRAME_TYPE, **_FRAME_TYPE_ATTRIBUTES),
        MRMetaboliteMapSequence=metabolite,
    )
    if acquired_matrix is not None:
        slices, rows, columns = acquired_matrix
        shared.MRFOVGeometrySequence = Sequence(
            [
                _item(
                    InPlanePhaseEncodingDirection="ROW",
                    MRAcquisitionFrequencyEncodingSteps=rows,
                    MRAcquisitionPhaseEncodingStepsInPlane=columns,
                    MRAcquisitionPhaseEncodingStepsOutOfPlane=slices,
                    PercentSampling="100",
                    PercentPhaseFieldOfView="100",
                )
            ]
        )
    return shared


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    _set(item, **attributes)
    return item


def _set(d: Dataset, **attributes: Any) -> None:
    for keyword, value in attributes.items():
        setattr(d, keyword, Sequence([value]) if isinstance(value, Dataset) else value)
