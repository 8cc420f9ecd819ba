"""What a person takes along from a study: DICOM and NIfTI as archives, the summary as a picture or a page."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from stat import S_IFREG

import numpy as np
import pydicom
from fastapi import APIRouter, HTTPException
from PIL import Image
from starlette.responses import Response, StreamingResponse

from dicom_node.store import Made, ResultSet

from .access import Viewer
from .desk import AtDesk, Desk
from .viewer import SHELF
from .volumes import volumes_of

router = APIRouter(include_in_schema=False)

_PIECE = 1024**2
_SUMMARY = "SC_summary"
_A4_LANDSCAPE = (11.69, 8.27)  # inches

# A name within the archive, and its content: a file, or what makes it once its turn has come.
Entry = tuple[str, Path | Callable[[], bytes]]


@router.get("/studies/{case}/dicom.zip")
def dicom(case: str, desk: AtDesk, person: Viewer) -> Response:
    """Every DICOM object of the newest results, as it was made."""
    results = _results(desk, case)
    files = [(Path(m.path).name, desk.spool.path(m.path)) for m in results.made if m.sop_uid]
    _require(path for _, path in files)
    return _archive(files, f"results-{results.key.revision}-dicom.zip")


@router.get("/studies/{case}/nifti.zip")
def nifti(case: str, desk: AtDesk, person: Viewer) -> Response:
    """Every volume that the viewer shows, as NIfTI: results, anatomy, lesions, and maps as measured."""
    results = _results(desk, case)
    _require(desk.spool.path(m.path) for m in results.made if m.kind == "PM")
    found = volumes_of(desk.store, desk.spool, desk.settings.input_rules, SHELF, results.key.case)
    if found is None:
        raise HTTPException(404, "there are no volumes of this study")

    def made(key: str) -> Callable[[], bytes]:
        return lambda: found.load(key).as_nifti()

    folders = {"map": "super-resolved", "measured": "measured", "anatomy": "anatomy", "segment": "segments"}
    entries: list[Entry] = []
    for layer in found.layers.values():
        name = "".join(c if c.isalnum() else "_" for c in layer.name)
        entries.append((f"{folders[layer.kind]}/{name}.nii.gz", made(layer.key)))
    return _archive(entries, f"results-{results.key.revision}-nifti.zip")


@router.get("/studies/{case}/summary.png")
def summary_png(case: str, desk: AtDesk, person: Viewer) -> Response:
    """The page on quality, as it went to the PACS."""
    held = io.BytesIO()
    Image.fromarray(_summary(desk, case)).save(held, "PNG")
    return Response(held.getvalue(), media_type="image/png")


@router.get("/studies/{case}/summary.pdf")
def summary_pdf(case: str, desk: AtDesk, person: Viewer) -> Response:
    """The same on A4."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    picture = _summary(desk, case)
    figure = Figure(figsize=_A4_LANDSCAPE, facecolor="black")
    FigureCanvasPdf(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.imshow(picture, interpolation="nearest")
    held = io.BytesIO()
    figure.savefig(
        held, format="pdf", metadata={"Title": "MRSI super-resolution: summary", "CreationDate": None}
    )
    return Response(held.getvalue(), media_type="application/pdf", headers=_named("summary.pdf"))


def _results(desk: Desk, case: str) -> ResultSet:
    known = desk.store.case_of(case)
    found = None if known is None else desk.store.newest_results(known)
    if found is None:
        raise HTTPException(
            404, "there are no results of this study" if known else "no such study is known here"
        )
    return found


def summary_of(results: ResultSet) -> Made | None:
    """The summary page among results."""
    return next((m for m in results.made if m.name == _SUMMARY), None)


def _summary(desk: Desk, case: str) -> np.ndarray:
    made = summary_of(_results(desk, case))
    if made is None:
        raise HTTPException(404, "no summary page was made of this study")
    path = desk.spool.path(made.path)
    _require([path])
    return np.asarray(pydicom.dcmread(path).pixel_array)


def _require(paths: Iterable[Path]) -> None:
    """Before anything is sent: an archive that breaks off would look like one."""
    if not all(path.exists() for path in paths):
        raise HTTPException(410, "the files of this study have left the spool: their retention time is over")


def _named(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}


def _archive(entries: Iterable[Entry], name: str) -> StreamingResponse:
    return StreamingResponse(zipped(entries), media_type="application/zip", headers=_named(name))


def zipped(entries: Iterable[Entry]) -> Iterator[bytes]:
    """A ZIP archive piece by piece, stored: neither in memory nor on disk as a whole."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, content in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (S_IFREG | 0o644) << 16
            with archive.open(entry, "w", force_zip64=True) as out:
                if isinstance(content, Path):
                    with content.open("rb") as file:
                        while piece := file.read(_PIECE):
                            out.write(piece)
                            yield sink.taken()
                else:
                    out.write(content())
            yield sink.taken()
    yield sink.taken()


class _Sink(io.RawIOBase):
    """What is written is held until it is taken; it cannot go back, and zipfile need not."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, piece: object) -> int:
        """Appends ``piece``, which is bytes of any kind."""
        data = memoryview(piece)  # type: ignore[arg-type]
        self._held += data
        return data.nbytes

    def taken(self) -> bytes:
        """What was written since the last time."""
        held = bytes(self._held)
        self._held.clear()
        return held
