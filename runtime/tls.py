"""TLS: contexts of clients and servers from the files that the settings name, and what went wrong, in words."""

from __future__ import annotations

import ssl
from pathlib import Path

from runtime.errors import StageError


def client_context(
    authority: Path | None, certificate: Path | None = None, key: Path | None = None, *, section: str, prefix: str
) -> ssl.SSLContext:
    """A context that trusts `authority` (None: the system's) and shows `certificate`, if there is one.

    StageError names the setting whose file cannot be used: `section` is its section, such as `kafka`, and `prefix`
    begins its name, such as `ssl_` of `ssl_ca_file`.
    """
    try:
        context = ssl.create_default_context(cafile=str(authority) if authority else None)
    except OSError as error:
        raise StageError(f"[{section}] {prefix}ca_file: {authority}: {_file_problem(error)}") from error
    if certificate is not None:
        load_certificate(context, certificate, key, f"[{section}] {prefix}certificate_file")
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None, setting: str) -> None:
    """Load a certificate and its key, which may be in the same file. StageError names the setting."""
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        files = f"{certificate} with {key}" if key else str(certificate)
        raise StageError(f"{setting}: {files}: {_file_problem(error)}") from error


def _file_problem(error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return (error.strerror or str(error)).lower()
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    return "holds no certificate and key in PEM"


def tls_problem(error: ssl.SSLError) -> str:
    """Why a server and we do not agree, from the client's side."""
    if isinstance(error, ssl.SSLCertVerificationError):
        of_name = "match" in error.verify_message  # OpenSSL: «Hostname mismatch», «IP address mismatch»
        why = "for another host" if of_name else "not trusted"
        return f"the server's certificate is {why}: {error.verify_message.rstrip('.')}"
    return reason_problem(error.reason) if error.reason else f"no TLS connection: {error}"


def reason_problem(reason: str) -> str:
    """What OpenSSL's name of a reason means, such as `TLSV13_ALERT_CERTIFICATE_REQUIRED`, for a client."""
    if "ALERT_CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return "the server asks for a client certificate"
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return "the server does not trust our client certificate"
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING"):
        return "the server does not speak TLS on this port"
    return f"no TLS connection: {reason.lower().replace('_', ' ')}"
