"""Notifications to systemd (sd_notify): that a process is ready, and that it is alive. Without systemd, nothing."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

NOTIFY_SOCKET = "NOTIFY_SOCKET"
READY = "READY=1"
ALIVE = "WATCHDOG=1"


def notify(state: str) -> None:
    """Send a state. Errors are ignored: systemd then restarts the process, which is what the watchdog is for."""
    address = os.environ.get(NOTIFY_SOCKET, "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
