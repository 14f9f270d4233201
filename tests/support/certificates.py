"""Certificates for tests of TLS: an authority, a server's for `localhost`, a client's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True)
class Certificates:
    """Files of an authority, of a server certificate for `localhost`, and of a client certificate."""

    authority: Path
    server: Path
    client: Path

    @classmethod
    def issue(cls, folder: Path) -> Certificates:
        folder.mkdir(parents=True, exist_ok=True)
        ca = trustme.CA()
        files = cls(folder / "authority.pem", folder / "server.pem", folder / "client.pem")
        ca.cert_pem.write_to_path(files.authority)
        for name, path in (("localhost", files.server), ("client@fleetlake.test", files.client)):
            leaf = ca.issue_cert(name)
            key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # the form that Kafka reads
            path.write_bytes(pem + b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        return files
