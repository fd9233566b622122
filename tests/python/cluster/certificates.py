# SPDX-License-Identifier: Apache-2.0
"""Creates certificates for tests with openssl: for a signer, and for servers and clients on the loopback
interface.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import run


@dataclass(frozen=True)
class Certificate:
    """Paths of PEM files."""

    cert: Path
    key: Path

    def keys(self, ca: "Certificate") -> dict[str, str]:
        """Returns the configuration's keys."""
        return {"ca": str(ca.cert), "cert": str(self.cert), "key": str(self.key)}


def _openssl(*words: str | Path) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs openssl")
    result = run([program, *words])
    assert result.returncode == 0, result.stderr


_new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def signer(folder: Path, name: str) -> Certificate:
    """Creates a certificate that can sign others."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}-key.pem")
    _openssl(
        "req", "-x509", *_new_key, "-keyout", made.key, "-out", made.cert, "-subj", f"/CN={name}",
        "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip
    return made


def signed(folder: Path, name: str, by: Certificate, address: str = "IP:127.0.0.1") -> Certificate:
    """Creates a certificate for a server and a client at an address."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}-key.pem")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text(
        f"subjectAltName={address}\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n"
    )
    _openssl("req", *_new_key, "-keyout", made.key, "-out", request, "-subj", f"/CN={name}")
    _openssl(
        "x509", "-req", "-in", request, "-CA", by.cert, "-CAkey", by.key, "-CAcreateserial", "-days", "2",
        "-extfile", extensions, "-out", made.cert,
    )  # fmt: skip
    return made
