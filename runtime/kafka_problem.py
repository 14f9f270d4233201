"""Why Kafka does not let us in, in words: the address, TLS, the sign-in."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from runtime.aiokafka_internals.connections import TokenRefusedError, try_brokers
from runtime.errors import StageError
from runtime.kafka_tokens import TokenError
from runtime.tls import tls_problem

_SECONDS = 5.0


async def connection_problem(client: Mapping[str, Any], seconds: float = _SECONDS) -> str | None:
    """Why no broker takes us; None if one does. `client` is what `client_options` gives. Tries each for `seconds`."""
    error = await try_brokers(client, seconds)
    return None if error is None else explain(error, client["security_protocol"])


def explain(error: Exception, security_protocol: str) -> str:
    """What an error of a connection means (pure)."""
    cause = error.__cause__ if isinstance(error, KafkaConnectionError) else error
    match cause:
        case ssl.SSLError():
            return tls_problem(cause)
        case socket.gaierror():
            return "there is no host of that name"
        case ConnectionRefusedError():
            return "connection refused"
        case TimeoutError():
            return "no answer"
        case SaslAuthenticationFailed():
            return f"sign-in refused: {cause.args[0]}" if cause.args else "sign-in refused"
        case TokenError():
            return f"sign-in refused: {cause.args[0]}"
        case TokenRefusedError():
            return (
                "sign-in refused: the broker does not take our token; is it for this cluster, and are the clocks right?"
            )
        case UnsupportedSaslMechanismError():
            return str(cause.args[0]) if cause.args else "the broker does not know this way to sign in (sasl_mechanism)"
        case IllegalSaslStateError():
            return "the broker takes no SASL on this port (security_protocol)"
        case ConnectionResetError() if "SSL" in security_protocol:
            return "the broker does not speak TLS on this port (security_protocol)"
        case EOFError() | ConnectionError() | None if "SSL" not in security_protocol:
            return "the broker hung up; does it expect TLS (security_protocol)?"
        case StageError():
            return str(cause)
        case OSError() if cause.errno:
            return os.strerror(cause.errno).lower()
        case KafkaError() | None:
            return str(error)
        case _:
            return str(cause) or type(cause).__name__
