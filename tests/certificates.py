"""Certificates, made while a test runs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate's PEM files: with its chain, its private key (PKCS #8), and both in one."""

    cert: Path
    key: Path
    both: Path


class Authority:
    """A CA whose files are in `folder`: `file` is its own certificate."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str, *hosts: str, expired: bool = False, password: str = "") -> Issued:
        """A certificate for some hosts, in files that begin with `name`; with a password the key is encrypted."""
        now = datetime.now(UTC)
        not_after = now - timedelta(days=1) if expired else now + timedelta(days=1)
        leaf = self._ca.issue_cert(*hosts, not_before=now - timedelta(days=9), not_after=not_after)
        chain = b"".join(part.bytes() for part in leaf.cert_chain_pems)
        encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
        # Kafka reads no other form than PKCS #8.
        key = load_pem_private_key(leaf.private_key_pem.bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, encryption
        )
        issued = Issued(*(self._folder / f"{name}-{what}.pem" for what in ("cert", "key", "both")))
        for path, content in ((issued.cert, chain), (issued.key, key), (issued.both, key + chain)):
            path.write_bytes(content)
        return issued


def server_context(issued: Issued, client_ca: Path | None = None) -> ssl.SSLContext:
    """What a server with this certificate needs; with `client_ca` it wants a client certificate signed by that."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
    context.load_cert_chain(issued.both)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
