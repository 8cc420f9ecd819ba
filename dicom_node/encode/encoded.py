"""What encoding hands over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydicom import Dataset

Kind = Literal["MR", "SC", "PM", "REG", "SEG", "SR", "KO", "PR"]


@dataclass(frozen=True, eq=False)
class EncodedObject:
    """One SOP instance ready to be written: ``dataset.save_as(path, enforce_file_format=True)``.

    ``name`` is unique within the study and safe as a file name ("MR_HGG_0017", "PM_HGG", "SEG_lesion").
    """

    dataset: Dataset
    kind: Kind
    name: str
