"""Picking a TCP port for a listener that is started a little later."""

from __future__ import annotations

import random
import socket

_LOWEST, _HIGHEST = 20_000, 32_000
"""Below the ports of outgoing connections (32768 and up on Linux), one of which could take the port meanwhile."""


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now. OSError when all that were tried are taken."""
    for port in random.sample(range(_LOWEST, _HIGHEST), 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError("no free port on " + host)
