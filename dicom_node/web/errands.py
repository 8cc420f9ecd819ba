"""Acts on a destination that take a while: they go on in the background, and the page says how they stand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dicom_node import dispatch, log
from dicom_node.config import DicomDestination
from dicom_node.errors import BadConfiguration, NodeError, UnsuitableInput

from .desk import Desk

if TYPE_CHECKING:
    from dicom_node.rehearse import Rehearsal

_LOG = log.get("web")


@dataclass(frozen=True)
class Errand:
    """``kind``: "echo" or "rehearsal". ``words``: the step under way, or what came of it in the end."""

    kind: str
    destination: str
    by: str
    began_at: float
    words: str
    ended: bool = False
    good: bool = False
    rehearsal: Rehearsal | None = None


class Errands:
    """The last errand to each destination since the page was started. Safe between threads."""

    def __init__(self) -> None:
        self._by_destination: dict[str, Errand] = {}
        self._lock = threading.Lock()
        self._rehearsing = threading.Lock()  # one at a time: each holds a whole study

    def all(self) -> dict[str, Errand]:
        """By destination."""
        with self._lock:
            return dict(self._by_destination)

    def start(self, desk: Desk, kind: str, destination: str, by: str) -> None:
        """Raises UnsuitableInput if one is under way there, BadConfiguration for another type of it."""
        configured = desk.settings.destination_named(destination)
        if kind == "echo" and not isinstance(configured, DicomDestination):
            raise BadConfiguration(f"{destination} is of type {configured.type}: an echo is for DICOM peers")
        if configured.type == "folder":
            raise BadConfiguration(f"{destination} is a folder: there is nothing to rehearse")
        errand = Errand(kind, destination, by, desk.store.clock(), "begin")
        with self._lock:
            known = self._by_destination.get(destination)
            if known is not None and not known.ended:
                raise UnsuitableInput(f"the {known.kind} of {destination} is still under way")
            self._by_destination[destination] = errand
        run = _echo if kind == "echo" else self._rehearse
        threading.Thread(target=self._carry_out, args=(desk, errand, run), daemon=True, name=kind).start()

    def _carry_out(
        self, desk: Desk, errand: Errand, run: Callable[[Desk, Errand, Callable[[str], None]], Errand]
    ) -> None:
        def tell(words: str) -> None:
            self._keep(replace(errand, words=words))

        try:
            ended = run(desk, errand, tell)
        except NodeError as problem:
            ended = replace(errand, words=str(problem))
        except Exception as bug:
            _LOG.error("errand.bug", kind=errand.kind, destination=errand.destination, **log.place_of(bug))
            ended = replace(
                errand, words=f"an error inside the node ({type(bug).__name__}): its log says where"
            )
        self._keep(replace(ended, ended=True))
        _LOG.info(
            "errand.ended", kind=errand.kind, destination=errand.destination, by=errand.by, good=ended.good
        )

    def _keep(self, errand: Errand) -> None:
        with self._lock:
            self._by_destination[errand.destination] = errand

    def _rehearse(self, desk: Desk, errand: Errand, tell: Callable[[str], None]) -> Errand:
        from dicom_node.rehearse import rehearse  # encodes a study: of no use to other pages

        tell("waits for the rehearsal of another destination")
        with self._rehearsing:
            found = rehearse(
                desk.settings, errand.destination, store=desk.store, spool=desk.spool, progress=tell
            )
        words = "keeps everything as it was sent" if found.good else "does not keep everything as it was sent"
        return replace(errand, words=words, good=found.good, rehearsal=found)


def _echo(desk: Desk, errand: Errand, tell: Callable[[str], None]) -> Errand:
    destination = desk.settings.destination_named(errand.destination)
    assert isinstance(destination, DicomDestination)
    tell("asks for an echo")
    dispatch.echo(destination, desk.settings.node)
    return replace(errand, words="answers", good=True)
