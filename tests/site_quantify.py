"""A site's quantification command, small but real: integrates the peaks of a CSI's spectra, voxel by voxel.

``python site_quantify.py <input> <output> [mode]``: reads the MR Spectroscopy object under <input>/spectra
(PS3.3 A.36.3), writes <output>/maps/*.nii.gz. It knows pydicom, numpy and nibabel only.
Modes for trouble: fail, hang (with a child of its own), nothing, rubbish.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

BANDS_HZ = {"tNAA": (180.0, 220.0), "tCho": (80.0, 120.0)}


def main(source: Path, out: Path, mode: str) -> int:
    sys.stdout.write(f"{'MRSI_NODE' in ' '.join(os.environ)}\n")
    if mode == "fail":
        return 3
    if mode == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (Path(os.environ["TMPDIR"]).parents[1] / "pids").write_text(f"{os.getpid()} {child.pid}")
        time.sleep(600)
    if mode == "rubbish":
        (out / "notes.txt").write_text("no map")
    if mode in ("nothing", "rubbish"):
        return 0
    import nibabel
    import numpy as np
    import pydicom

    (path,) = (source / "spectra").iterdir()
    d = pydicom.dcmread(path)
    points = d.DataPointColumns
    fid = np.frombuffer(d.SpectroscopyData, "<f4").view("<c8")
    fid = fid.reshape(d.NumberOfFrames, d.Rows, d.Columns, points)  # PS3.3 C.8.14.4.1
    spectrum = np.fft.fftshift(np.fft.fft(fid, axis=-1), axes=-1)
    hz = np.fft.fftshift(np.fft.fftfreq(points, 1 / float(d.SpectralWidth)))
    shared = d.SharedFunctionalGroupsSequence[0]
    iop = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    rows, columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    at = [
        np.array(f.PlanePositionSequence[0].ImagePositionPatient, float)
        for f in d.PerFrameFunctionalGroupsSequence
    ]
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 3] = iop[:3] * columns, iop[3:] * rows, at[0]
    lps[:3, 2] = (at[-1] - at[0]) / (len(at) - 1)
    (out / "maps").mkdir()
    for name, (low, high) in BANDS_HZ.items():
        area = np.abs(spectrum[..., (hz >= low) & (hz <= high)]).sum(axis=-1)
        image = nibabel.Nifti1Image(area.transpose(2, 1, 0).astype(np.float32), np.diag([-1, -1, 1, 1]) @ lps)
        nibabel.save(image, out / "maps" / f"{name}.nii.gz")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), (sys.argv[3:] or ["run"])[0]))
