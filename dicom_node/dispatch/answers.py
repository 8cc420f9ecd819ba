"""What a destination answers, object by object, and the errors that tell of it once it has."""

from __future__ import annotations

from collections.abc import Callable

from dicom_node import log
from dicom_node.errors import PeerBusy
from dicom_node.store import Sendable

from .refusals import ObjectsRefused, Refusal
from .statuses import Verdict, in_words, verdict

_LOG = log.get("dispatch")

Took = Callable[[Sendable, str], None]


class Answers:
    """Answers of ``destination`` to one try. ``taken`` is called with the status of each object it takes."""

    def __init__(self, destination: str, taken: Took) -> None:
        self._destination = destination
        self._taken = taken
        self._later: list[Refusal] = []
        self._refusals: list[Refusal] = []

    def heard(self, f: Sendable, status: int) -> None:
        """The answer to one object."""
        match verdict(status):
            case Verdict.TAKEN:
                if status:
                    _LOG.info(
                        "object.noted", destination=self._destination, uid=f.sop_uid, said=in_words(status)
                    )
                self._taken(f, f"{status:04X}")
            case Verdict.LATER:
                self._later.append(Refusal(f, status, in_words(status)))
            case Verdict.NEVER:
                self._refusals.append(Refusal(f, status, f"it answered {in_words(status)}"))

    def refused(self, refusal: Refusal) -> None:
        """An object that could not even be sent."""
        self._refusals.append(refusal)

    def require_none_put_off(self) -> None:
        """Raises PeerBusy if any object is to go later."""
        if self._later:
            raise PeerBusy(f"{self._destination} put off {len(self._later)} objects, first {self._later[0]}")

    def conclude(self) -> None:
        """Raises PeerBusy if any object is to go later, else ObjectsRefused if any will never be taken."""
        self.require_none_put_off()
        if self._refusals:
            raise ObjectsRefused(self._destination, self._refusals)
