"""Several TCP ports in a row that nobody listens on now."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from runtime.ports import free_port


def free_ports(number: int) -> int:
    """The first of `number` free ports in a row, on every address of this machine."""
    while True:
        first = free_port()
        with ExitStack() as held:
            try:
                for port in range(first, first + number):
                    held.enter_context(socket.create_server(("", port)))
            except OSError:
                continue
        return first
