"""Through which proxy a vendor's cloud is reached: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, one policy.

It holds for REST, tokens and WebSockets alike. Loopback is never reached through a proxy. MQTT uses none.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

_HTTP_SCHEME = {"ws": "http", "wss": "https"}


class ProxySettingError(ValueError):
    """A proxy variable is unusable. The text names the variable and what is due, but not its value: that may hold a
    password.
    """


def proxy_for(url: str) -> str | None:
    """The URL of the proxy for a request; None where there is none. ProxySettingError."""
    target = urlsplit(url)
    if is_loopback(target.hostname or ""):
        return None
    scheme = _HTTP_SCHEME.get(target.scheme, target.scheme)
    proxies = getproxies_environment()
    variable = scheme if proxies.get(scheme) else "all"
    proxy = proxies.get(variable)
    if not proxy or proxy_bypass_environment(_host_and_port(target), proxies):
        return None
    return _checked(proxy, f"{variable.upper()}_PROXY")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or address."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_and_port(target: SplitResult) -> str:
    return f"{target.hostname}:{target.port}" if target.port else target.hostname or ""


def _checked(proxy: str, variable: str) -> str:
    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(url)
        is_complete = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_complete = False
    if not is_complete:
        raise ProxySettingError(f"{variable}: not the URL of a proxy; http://host:port is due")
    if parts.scheme not in ("http", "https"):
        raise ProxySettingError(
            f"{variable}: proxies of the kind {parts.scheme} are not supported; use http://host:port"
        )
    return url
