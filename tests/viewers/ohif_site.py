"""OHIF as a site would have it: its static build and a DICOMweb archive behind one origin, on loopback."""

from __future__ import annotations

import http.client
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_CONFIGURATION = """window.config = {
  routerBasename: '/',
  extensions: [],
  modes: [],
  showStudyList: true,
  showWarningMessageForCrossOrigin: false,
  showCPUFallbackMessage: false,
  investigationalUseDialog: { option: 'never' },
  defaultDataSourceName: 'dicomweb',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
    sourceName: 'dicomweb',
    configuration: {
      friendlyName: 'archive', name: 'archive',
      wadoUriRoot: '/dicom-web', qidoRoot: '/dicom-web', wadoRoot: '/dicom-web',
      qidoSupportsIncludeField: false, imageRendering: 'wadors', thumbnailRendering: 'wadors',
      enableStudyLazyLoad: true, supportsFuzzyMatching: false, supportsWildcard: true,
      omitQuotationForMultipartRequest: true, bulkDataURI: { enabled: true },
    },
  }],
};
"""


_KINDS = {".js": "text/javascript", ".wasm": "application/wasm", ".css": "text/css"}


class Site:
    """``dist`` at http://127.0.0.1:``port``/, and the archive's /dicom-web below it."""

    def __init__(self, dist: Path, archive_port: int) -> None:
        class Handler(SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path.startswith("/dicom-web/"):
                    self._from_archive()
                elif path == "/app-config.js":
                    self._answer(200, "text/javascript", _CONFIGURATION.encode())
                else:
                    if not (dist / path.lstrip("/")).is_file():
                        self.path = "/index.html"  # routes of the application itself
                    super().do_GET()

            def guess_type(self, path: object) -> str:
                return _KINDS.get(Path(str(path)).suffix) or super().guess_type(str(path))

            def _from_archive(self) -> None:
                archive = http.client.HTTPConnection("127.0.0.1", archive_port, timeout=60)
                archive.request("GET", self.path, headers={"Accept": self.headers.get("Accept", "*/*")})
                answer = archive.getresponse()
                self._answer(answer.status, answer.headers.get("Content-Type", ""), answer.read())
                archive.close()

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Handler(*a, directory=str(dist)))
        self.port = int(self._server.server_address[1])
        self._server.daemon_threads = True

    def __enter__(self) -> Site:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def chromium() -> str | None:
    """Debian's Chromium, or another of that name."""
    return shutil.which("chromium") or shutil.which("chromium-browser")
