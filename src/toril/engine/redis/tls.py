"""How a connection to Redis is secured: whom it trusts, and what it shows of itself."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toril.engine.redis.secret import Secret

Part = Literal["ca", "cert", "key"]

TLS_FILES = {
    "ca_file": "TORIL_REDIS_TLS_CA_FILE",
    "cert_file": "TORIL_REDIS_TLS_CERT_FILE",
    "key_file": "TORIL_REDIS_TLS_KEY_FILE",
    "server_name": "TORIL_REDIS_TLS_SERVER_NAME",
}
"""The variables that say more about a connection with TLS, by field of `TlsSettings`."""


class TlsMaterialError(Exception):
    """A certificate or a key cannot be used. `str()` says why and holds nothing of its content.

    Attributes:
        part: which of the three it is, so that the caller can name the variable or field it came from.
    """

    def __init__(self, part: Part, problem: str) -> None:
        super().__init__(problem)
        self.part: Part = part


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Server certificates are always verified; TLS 1.2 is the oldest accepted.

    Certificates and the key are PEM, each in a file or as text. Files are read at each connect: the next connection
    uses a renewed certificate.
    """

    ca_file: str | None = None
    """The authorities to trust; without this and `ca` the system's."""
    cert_file: str | None = None
    """The client's certificate, for servers that ask for one."""
    key_file: str | None = None
    """Its private key, without a password; None = it is in the certificate's file."""
    server_name: str | None = None
    """Name the certificate must carry; None = the host."""
    ca: str | None = None
    """As `ca_file`, as text."""
    cert: str | None = None
    key: Secret | None = None

    def context(self) -> ssl.SSLContext:
        """Read everything anew.

        Raises:
            TlsMaterialError: a file cannot be read, or something is no certificate or key.
        """
        context = self._trusting()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file or self.cert is not None:
            _show(context, *self._own_certificate())
        elif self.key_file or self.key is not None:
            raise TlsMaterialError("key", "goes with a certificate, and there is none")
        return context

    def _trusting(self) -> ssl.SSLContext:
        text = self.ca if self.ca is not None else _read(self.ca_file, "ca")
        if text is None:
            return ssl.create_default_context()
        if "-----BEGIN" not in text:
            raise TlsMaterialError("ca", "holds no certificate in PEM form")
        try:
            return ssl.create_default_context(cadata=text)
        except (ssl.SSLError, ValueError):
            raise TlsMaterialError("ca", "holds no certificate in PEM form") from None

    def _own_certificate(self) -> tuple[str, str]:
        certificate = self.cert if self.cert is not None else _read(self.cert_file, "cert")
        assert certificate is not None
        key = self.key.reveal() if self.key is not None else _read(self.key_file, "key")
        return certificate, certificate if key is None else key


def _read(path: str | None, part: Part) -> str | None:
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="latin-1")
    except OSError as problem:
        raise TlsMaterialError(part, f"cannot be read: {problem.strerror}") from None


def _show(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Make the context present a certificate. OpenSSL takes it from files only."""
    if "-----BEGIN CERTIFICATE" not in certificate:
        raise TlsMaterialError("cert", "holds no certificate in PEM form")
    if "PRIVATE KEY-----" not in key:
        raise TlsMaterialError("key", "holds no private key in PEM form")

    def no_password() -> bytes:
        # Without this OpenSSL would ask for one on the terminal.
        raise TlsMaterialError("key", "is encrypted; Toril takes keys without a password")

    with _private_files(certificate, key) as (cert_file, key_file):
        try:
            context.load_cert_chain(cert_file, key_file, no_password)
        except ssl.SSLError as problem:
            if problem.reason == "KEY_VALUES_MISMATCH":
                raise TlsMaterialError("key", "does not belong to the certificate") from None
            raise TlsMaterialError("cert", f"cannot be used: {problem.reason or 'not PEM'}") from None


@contextmanager
def _private_files(certificate: str, key: str) -> Iterator[tuple[str, str]]:
    """Two files that only this user can read, for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="toril-tls-") as folder:
        paths = Path(folder) / "cert", Path(folder) / "key"
        for path, text in zip(paths, (certificate, key), strict=True):
            path.touch(mode=0o600)
            path.write_text(text, encoding="latin-1")
        yield str(paths[0]), str(paths[1])
