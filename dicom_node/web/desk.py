"""What every page needs at hand: the settings, the store and the spool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from dicom_node import boundary
from dicom_node.config import Settings
from dicom_node.spool import Spool
from dicom_node.store import Store


@dataclass(frozen=True)
class Desk:
    """One per process; its store is at this version's schema already."""

    settings: Settings
    store: Store
    spool: Spool

    @classmethod
    def open(cls, settings: Settings) -> Desk:
        storage = settings.storage
        store = Store(storage.database_url, boundary.clock)
        return cls(settings, store, Spool(storage.folder / "spool", storage.low_water_mb))


async def desk(request: Request) -> Desk:
    """The desk of the application that serves ``request``."""
    at: Desk = request.app.state.desk
    return at


AtDesk = Annotated[Desk, Depends(desk)]
