"""Layouts of research cases: what a folder is, told by its names, and the study in it.

One module per layout, each giving the same values. To add one: a module with ``NAME``, ``root_of(folder)``
(cheap, names only) and ``content_of(folder, root)``, and a line in ``_LAYOUTS``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

from pydicom import Dataset

from dicom_node.errors import UnsuitableInput
from dicom_node.source import SourceStudy

from . import fsl_mrsi, lcmodel, mrsiprep, plain
from .study import Content, describe, study

__all__ = ["KNOWN", "Layout", "recognise"]

_LAYOUTS: tuple[ModuleType, ...] = (plain, fsl_mrsi, mrsiprep, lcmodel)

# For people whose folder is none of them.
KNOWN = (
    "a NIfTI case (maps/<Metabolite>.nii.gz), fsl_mrsi results (concs/), a MRSIPrep session "
    "(…_met-…_desc-signal_mrsi.nii.gz) or LCModel tables (…_sl1_2-3.table or .csv)"
)


@dataclass(frozen=True)
class Layout:
    """A folder that was recognised: ``name`` says as what; ``root`` holds the layout's own files."""

    name: str
    folder: Path
    root: Path
    module: ModuleType

    @cached_property
    def content(self) -> Content:
        """The case's volumes by what they are. Raises UnsuitableInput in words."""
        content: Content = self.module.content_of(self.folder, self.root)
        return content

    def describe(self) -> list[tuple[str, str, str, str]]:
        """(uid, description, role, reason) of each file, as series are described. Raises UnsuitableInput."""
        return describe(self.content)

    def study(self, header: Dataset | None = None) -> SourceStudy:
        """The case as sr_core and the encoders want it, of the study of ``header`` if there is one.

        Raises UnsuitableInput or UnsuitableGeometry.
        """
        return study(self.content, header)


def recognise(folder: Path) -> Layout | None:
    """What ``folder`` is laid out as, None if as nothing known. Opens no volume."""
    if not folder.is_dir():
        return None
    for module in _LAYOUTS:
        root = module.root_of(folder)
        if root is not None:
            return Layout(module.NAME, folder, root, module)
    return None


def required(folder: Path) -> Layout:
    """What ``folder`` was recognised as when it was taken. Raises UnsuitableInput if it no longer is."""
    found = recognise(folder)
    if found is None:
        raise UnsuitableInput(f"{folder.name} is no longer {KNOWN}: drop it again, whole")
    return found
