"""A PACS by DICOMweb: QIDO-RS and WADO-RS (PS3.18 10.6, 10.4)."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.parser import BytesParser
from urllib.parse import quote, urlencode

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from dicom_node.config import PacsRules
from dicom_node.errors import PeerUnreachable, Refused, TemporaryError

from .base import SERIES_KEYS, STUDY_KEYS, Accept

_LARGEST_INSTANCE = 1024**3
_LARGEST_ANSWER = 32 * 1024**2  # of a query: some ten thousand matches
_INSTANCE = 'multipart/related; type="application/dicom"; transfer-syntax=*'


class _Stay(urllib.request.HTTPRedirectHandler):
    """What is asked of the archive is asked of nobody else: a redirection is an error."""

    def redirect_request(self, *_: object) -> None:
        return None


# No proxy of the environment either.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)


class WebPacs:
    """One DICOMweb origin server. Instances come one by one, so that memory holds one at a time."""

    def __init__(self, rules: PacsRules, accept: Accept) -> None:
        self._rules = rules
        self._accept = accept

    def studies(self, **keys: str) -> list[Dataset]:
        """Studies that match ``keys``. Raises TemporaryError or Refused."""
        return self._query("studies", keys, STUDY_KEYS)

    def series(self, study_uid: str) -> list[Dataset]:
        """Series of one study. Raises as ``studies``."""
        return self._query(f"studies/{quote(study_uid, safe='')}/series", {}, SERIES_KEYS)

    def retrieve(self, study_uid: str, series_uid: str) -> None:
        """Fetch one series and hand each instance on. Raises as ``studies``."""
        series = f"studies/{quote(study_uid, safe='')}/series/{quote(series_uid, safe='')}"
        for found in self._query(f"{series}/instances", {}, ("SOPClassUID", "SOPInstanceUID")):
            uid = str(found.SOPInstanceUID)
            content = self._get(f"{series}/instances/{quote(uid, safe='')}", _INSTANCE, _LARGEST_INSTANCE)
            status = self._accept(only_part(*content), str(found.get("SOPClassUID", "")), uid)
            if status != 0:
                raise TemporaryError(f"an instance from the archive was not kept (status {status:04X})")

    def _query(self, path: str, keys: Mapping[str, str], wanted: tuple[str, ...]) -> list[Dataset]:
        tags = [f"{tag_for_keyword(k):08X}" for k in wanted]
        fields = [*keys.items(), *(("includefield", tag) for tag in tags)]
        body, _ = self._get(f"{path}?{urlencode(fields)}", "application/dicom+json", _LARGEST_ANSWER)
        if not body:
            return []  # 204: no match
        try:
            return [Dataset.from_json(item) for item in json.loads(body)]
        except Exception as e:  # whatever an untrusted answer makes of it
            raise TemporaryError(f"the archive's answer cannot be read ({type(e).__name__})") from e

    def _get(self, path: str, accept: str, most: int) -> tuple[bytes, str]:
        request = urllib.request.Request(f"{self._rules.url.rstrip('/')}/{path}", headers={"Accept": accept})
        try:
            with _OPENER.open(request, timeout=self._rules.timeout_s) as answer:
                body = answer.read(most + 1)
                kind = str(answer.headers.get("Content-Type", ""))
        except urllib.error.HTTPError as e:
            moved = ": it has moved; set the new url" if 300 <= e.code < 400 else ""
            words = f"the archive answered HTTP {e.code}{moved}"
            raise (TemporaryError(words) if e.code >= 500 or e.code == 429 else Refused(words)) from e
        except OSError as e:
            raise PeerUnreachable(f"the archive does not answer: {type(e).__name__}") from e
        if len(body) > most:
            raise Refused(f"the archive's answer is larger than {most // 1024**2} MiB")
        return body, kind


def only_part(body: bytes, kind: str) -> bytes:
    """The instance in a multipart/related answer (PS3.18 8.6.1.2)."""
    header = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode(), headersonly=True)
    boundary = header.get_boundary()
    if boundary is None:
        return body
    # Cut by hand: a parser of e-mail changes line ends in binary parts.
    part = body.partition(f"--{boundary}".encode())[2].rpartition(f"\r\n--{boundary}--".encode())[0]
    return part.partition(b"\r\n\r\n")[2]
