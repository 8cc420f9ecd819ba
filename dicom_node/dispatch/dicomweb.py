"""STOW-RS and QIDO-RS to a DICOMweb destination (PS3.18 10.5, 10.6)."""

from __future__ import annotations

import io
import json
import ssl
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from dicom_node import log
from dicom_node.config import DicomWebDestination, NodeRules
from dicom_node.errors import PeerBusy, PeerUnreachable, Refused
from dicom_node.secret import read_secret
from dicom_node.store import Sendable
from dicom_node.tls import trusting

from .answers import Answers, Took
from .dicom import series_of
from .statuses import DUPLICATE

_LOG = log.get("dispatch")

# Objects of one request: enough to fill a slow line, few enough that a broken one costs little.
_MOST_OBJECTS = 100
_MOST_BYTES = 64 * 1024**2

_LONGEST_ANSWER = 64 * 1024**2
_LARGEST_INSTANCE = 1024**3

_PAGE = 1000

# Tags of the answer (PS3.18 10.5.3, DICOM JSON)
_REFERENCED, _FAILED = "00081199", "00081198"
_SOP_UID, _REASON, _WARNING = "00081155", "00081197", "00081196"


def store(
    destination: DicomWebDestination,
    files: Sequence[Sendable],
    root: Path,
    node: NodeRules,
    taken: Took,
) -> None:
    """STOW-RS ``files`` (paths under ``root``), calling ``taken`` with each one's status in hex.

    Raises PeerUnreachable or PeerBusy if the rest may go later, else ObjectsRefused or Refused.
    """
    server = _Server(destination, node)
    answers = Answers(destination.name, taken)
    for batch in _batches(files, root):
        statuses = _statuses(server.stow([root / f.path for f in batch]), batch, destination.name)
        for f in batch:
            answers.heard(f, statuses[f.sop_uid])
        answers.require_none_put_off()
    answers.conclude()


def shown(
    destination: DicomWebDestination, files: Sequence[Sendable], root: Path, node: NodeRules
) -> set[str]:
    """SOP Instance UIDs that QIDO-RS shows of the series of ``files``. Raises as ``store``."""
    server = _Server(destination, node)
    found: set[str] = set()
    for study_uid, series_uid in series_of(files, root):
        found |= server.instances(study_uid, series_uid)
    return found


def fetch_instance(
    destination: DicomWebDestination, node: NodeRules, study_uid: str, series_uid: str, sop_uid: str
) -> tuple[bytes, str]:
    """WADO-RS: one instance as it is kept (multipart/related), and its Content-Type. Raises as ``store``."""
    return _Server(destination, node).instance(study_uid, series_uid, sop_uid)


def _batches(files: Sequence[Sendable], root: Path) -> Iterator[list[Sendable]]:
    batch: list[Sendable] = []
    size = 0
    for f in files:
        own = (root / f.path).stat().st_size
        if batch and (len(batch) == _MOST_OBJECTS or size + own > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(f)
        size += own
    if batch:
        yield batch


def _statuses(answer: Mapping[str, Any] | None, batch: Sequence[Sendable], name: str) -> dict[str, int]:
    """The status of each object; one that a speaking answer leaves out was not stored.

    ``None``: the server said 200 and nothing else, which is Success for all (PS3.18 10.5.3.2).
    """
    if answer is None:
        return {f.sop_uid: 0x0000 for f in batch}
    found = {f.sop_uid: 0x0110 for f in batch}
    try:
        for item in _values(answer, _REFERENCED):
            found[_value(item, _SOP_UID, "")] = int(_value(item, _WARNING, 0))
        for item in _values(answer, _FAILED):
            found[_value(item, _SOP_UID, "")] = int(_value(item, _REASON, 0x0110))
    except (AttributeError, TypeError, ValueError, LookupError) as e:
        raise Refused(f"{name} answered STOW-RS with something that is not DICOM JSON") from e
    # Some servers give the duplicate as a warning.
    return {uid: DUPLICATE if status == 0xB111 else status for uid, status in found.items()}


def _values(item: Mapping[str, Any], tag: str) -> list[Any]:
    return list(item.get(tag, {}).get("Value", []))


def _value(item: Mapping[str, Any], tag: str, default: Any) -> Any:
    return next(iter(_values(item, tag)), default)


class _Server:
    """A DICOMweb server; what it says besides our objects' fate is turned into errors with words."""

    def __init__(self, destination: DicomWebDestination, node: NodeRules) -> None:
        self._name = destination.name
        self._url = destination.url.rstrip("/")
        self._headers = {"Accept": "application/dicom+json", **_authorization(destination)}
        trust: dict[str, Any] = {}
        if destination.url.startswith("https:"):
            trust = {"ssl_context": trusting(self._name, destination.ca_file)}
        self._pool = urllib3.PoolManager(
            retries=False,
            timeout=urllib3.Timeout(connect=node.acse_timeout_s, read=node.dimse_timeout_s),
            **trust,
        )

    def stow(self, paths: Sequence[Path]) -> dict[str, Any] | None:
        """One request with ``paths``; its answer, or None if there is none but 200."""
        boundary = uuid.uuid4().hex
        with _Multipart(paths, boundary) as body:
            headers = {
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Content-Length": str(body.size),
            }
            status, content, _ = self._ask("POST", "/studies", headers, body)
        if status not in (200, 202, 409):
            self._refuse(status, "STOW-RS")
        if not content.strip():
            if status == 409:
                raise Refused(f"{self._name} refused every object (HTTP 409) and does not say why")
            return None
        answer = self._json(content, "STOW-RS")
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]
        if not isinstance(answer, dict):
            raise Refused(f"{self._name} answered STOW-RS with something that is not DICOM JSON")
        return answer

    def instances(self, study_uid: str, series_uid: str) -> set[str]:
        """SOP Instance UIDs of a series, page by page."""
        found: set[str] = set()
        while True:
            page = f"?includefield=00080018&limit={_PAGE}&offset={len(found)}"
            status, content, _ = self._ask(
                "GET", f"/studies/{study_uid}/series/{series_uid}/instances{page}", {}, None
            )
            if status in (204, 404) or (status == 200 and not content.strip()):
                return found
            if status != 200:
                self._refuse(status, "QIDO-RS")
            answer = self._json(content, "QIDO-RS")
            try:
                uids = {str(_value(item, "00080018", "")) for item in answer}
            except (AttributeError, TypeError) as e:
                raise Refused(f"{self._name} answered QIDO-RS with something that is not DICOM JSON") from e
            if uids <= found:
                return found
            found |= uids

    def instance(self, study_uid: str, series_uid: str, sop_uid: str) -> tuple[bytes, str]:
        """One instance in the transfer syntax in which it is kept."""
        path = f"/studies/{study_uid}/series/{series_uid}/instances/{sop_uid}"
        accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
        status, content, kind = self._ask("GET", path, accept, None, _LARGEST_INSTANCE + 1)
        if status != 200:
            self._refuse(status, "WADO-RS")
        if len(content) > _LARGEST_INSTANCE:
            raise Refused(f"{self._name} answered WADO-RS with more than 1 GiB")
        return content, kind

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: Any, most: int = _LONGEST_ANSWER
    ) -> tuple[int, bytes, str]:
        """Status, the answer's first ``most`` bytes, and their Content-Type."""
        try:
            answer = self._pool.request(
                method,
                self._url + path,
                headers={**self._headers, **headers},
                body=body,
                redirect=False,
                preload_content=False,
            )
            try:
                content = answer.read(most)
            finally:
                answer.release_conn()
        except HTTPError as e:
            if _is_certificate(e):
                raise Refused(
                    f"{self._name}: its TLS certificate is not trusted here, see ca_file: {_certificate(e)}"
                ) from e
            raise PeerUnreachable(f"{self._name} cannot be reached over HTTP: {type(e).__name__}") from e
        return int(answer.status), bytes(content), str(answer.headers.get("Content-Type", ""))

    def _json(self, content: bytes, what: str) -> Any:
        try:
            return json.loads(content)
        except ValueError as e:
            raise Refused(f"{self._name} answered {what} with something that is not JSON") from e

    def _refuse(self, status: int, what: str) -> None:
        said = f"{self._name} answered {what} with HTTP {status}"
        if status >= 500 or status in (408, 425, 429):
            raise PeerBusy(f"{said}: it cannot now")
        if status in (401, 403):
            raise Refused(f"{said}: it does not let us in; check token or user")
        if 300 <= status < 400:
            raise Refused(f"{said}: it has moved; set the new url")
        raise Refused(f"{said}: check the url, and what the server takes")


def _is_certificate(error: BaseException) -> bool:
    return _certificate(error) != ""


def _certificate(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return str(cause.verify_message)
        inner = cause.args[0] if cause.args and isinstance(cause.args[0], BaseException) else None
        cause = getattr(cause, "reason", None) if inner is None else inner
        if not isinstance(cause, BaseException):
            return ""
    return ""


def _authorization(destination: DicomWebDestination) -> dict[str, str]:
    """The header that says who we are. Raises BadConfiguration if its secret is not there."""
    token = read_secret(destination.name, destination.token_env, destination.token_file)
    if token:
        return {"Authorization": f"Bearer {token}"}
    password = read_secret(destination.name, destination.password_env, destination.password_file)
    if password:
        return dict(urllib3.make_headers(basic_auth=f"{destination.user}:{password}"))
    return {}


class _Multipart(io.RawIOBase):
    """The body of a STOW-RS request: files one after another, never all in memory."""

    def __init__(self, paths: Sequence[Path], boundary: str) -> None:
        start = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        end = f"--{boundary}--\r\n".encode()
        self.size = sum(len(start) + p.stat().st_size + 2 for p in paths) + len(end)
        self._parts = self._pieces(paths, start, end)
        self._left = b""

    @staticmethod
    def _pieces(paths: Sequence[Path], start: bytes, end: bytes) -> Iterator[bytes]:
        for path in paths:
            yield start
            with path.open("rb") as f:
                while piece := f.read(1 << 18):
                    yield piece
            yield b"\r\n"
        yield end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = next(self._parts, b"")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
