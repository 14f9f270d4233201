"""Where notifications may be sent: connects to the addresses of a name, and refuses private ones.

The address is checked where the socket is made, after the name was resolved. Therefore no name can resolve to a public
address for the check and to a private one for the connection.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from typing import Any

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NEVER_PUBLIC = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "::/96",  # deprecated IPv4-compatible addresses (RFC 4291), which some systems still route as IPv4
        "64:ff9b:1::/48",  # local-use NAT64 (RFC 8215)
        "fec0::/10",  # deprecated site-local addresses (RFC 3879)
    )
)


class RefusedAddressError(OSError):
    """The receiver is on a private network, and the channel does not allow it."""


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet.

    An IPv6 address that stands for an IPv4 address (mapped, 6to4, global NAT64) counts as that one.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in _NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if any(parsed in network for network in _NEVER_PUBLIC):
            return False
    return parsed.is_global and not parsed.is_multicast


def check_address(address: str) -> None:
    """RefusedAddressError unless the address is public."""
    if not is_public(address):
        raise RefusedAddressError(
            errno.EACCES,
            f"{address} is a private address; set allow_private = true in the channel's config to deliver there",
        )


def public_socket(info: Any) -> socket.socket:
    """A socket for an address that is about to be connected to (aiohttp's `socket_factory`)."""
    family, kind, proto, _, address = info
    check_address(address[0])
    return socket.socket(family=family, type=kind, proto=proto)


async def connected(host: str, port: int, *, allow_private: bool) -> socket.socket:
    """A connected socket to the first address of `host` that answers. OSError as the last of them gave it."""
    loop = asyncio.get_running_loop()
    failed: OSError | None = None
    for family, kind, proto, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            if not allow_private:
                check_address(str(address[0]))
            return await _connect(socket.socket(family, kind, proto), address)
        except OSError as error:
            failed = error
    raise failed or OSError(f"{host} has no address")


async def _connect(sock: socket.socket, address: Any) -> socket.socket:
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
