"""A simulated CSI as DICOM: two lines per voxel, as high as the maps of an acquisition say."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.sequence import Sequence as Items

from dicom_node.simulate.export import orientation, position
from sr_core import Acquisition, Metabolite
from tests import builders

POINTS, WIDTH_HZ = 128, 2000.0
LINES_HZ = {
    Metabolite.TNAA: 203.125,
    Metabolite.TCHO: 93.75,
}  # on the frequency grid: all of a line in one bin


def csi(study: Sequence[FileDataset], of: Acquisition) -> FileDataset:
    """One MR Spectroscopy object of the same patient, study and Frame of Reference as ``study``."""
    (d,) = builders.mrs_object(study)
    grid = of.grid
    t = np.arange(POINTS) / WIDTH_HZ
    fid = np.zeros((*grid.shape, POINTS), dtype=np.complex64)
    for metabolite, hz in LINES_HZ.items():
        fid += of.map_of(metabolite).values[..., None] * np.exp(2j * np.pi * hz * t)
    d.NumberOfFrames, d.Rows, d.Columns = grid.shape
    d.DataPointColumns, d.SpectralWidth = POINTS, WIDTH_HZ
    d.SpectroscopyData = fid.astype(np.complex64).view(np.float32).tobytes()
    d.FrameOfReferenceUID = grid.frame_of_reference
    shared = d.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence[0].PixelSpacing = list(grid.spacing_mm[1:])
    shared.PixelMeasuresSequence[0].SliceThickness = grid.spacing_mm[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = orientation(grid)
    first = d.PerFrameFunctionalGroupsSequence[0]
    frames = []
    for k in range(grid.shape[0]):
        frame = copy.deepcopy(first)
        frame.PlanePositionSequence[0].ImagePositionPatient = position(grid, k)
        frame.FrameContentSequence[0].InStackPositionNumber = k + 1
        frame.FrameContentSequence[0].DimensionIndexValues = [k + 1]
        frames.append(frame)
    d.PerFrameFunctionalGroupsSequence = Items(frames)
    return d


def spectra_only(of: Acquisition, identity=None) -> list[FileDataset]:
    """A study of a CSI and anatomy, without any map."""
    whole = builders.study(of=of, **({"identity": identity} if identity else {}))
    anatomy = [d for d in whole if not d.SeriesDescription.startswith("LCM")]
    return [*anatomy, csi(whole, of)]
