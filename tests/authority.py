"""A certificate authority for the tests of everything that speaks TLS."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """A certificate authority of its own, by openssl."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "30", "-subj", "/CN=Test CA", "-keyout", self._key, "-out", self.certificate),
        )

    def issue(self, name: str, days: int = 60) -> tuple[Path, Path]:
        """Certificate and key for ``name``, valid on loopback."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=DNS:{name}.example,DNS:localhost,IP:127.0.0.1\n")
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key),
            *("-subj", f"/CN={name}", "-out", request),
        )
        self._openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key),
            *("-CAcreateserial", "-days", days, "-extfile", extensions, "-out", certificate),
        )
        return certificate, key

    @staticmethod
    def _openssl(*arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
