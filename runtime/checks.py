"""The result of one check of `fleetlake check`: whether a thing works, and otherwise why not and what to do."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from runtime.proxy import ProxySettingError, proxy_for


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check; `detail` never holds a secret."""

    name: str
    ok: bool
    detail: str


async def unreachable(url: str, timeout: float = 5.0) -> str | None:
    """Why nothing answers at a URL's host and port; None where something does, or where a proxy stands between.

    Only opens a connection and closes it. `timeout` is in seconds.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        return "is no URL with a host"
    try:
        if proxy_for(url) is not None:
            return None
    except ProxySettingError as error:
        return str(error)
    port = parts.port or _PORTS.get(parts.scheme, 443)
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except TimeoutError:
        return f"no answer within {timeout:.0f} s"
    except (socket.gaierror, UnicodeError):
        return f"there is no host {parts.hostname}"
    except ConnectionRefusedError:
        return "connection refused"
    except OSError as error:
        return os.strerror(error.errno).lower() if error.errno else str(error)
    writer.close()
    return None


_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
