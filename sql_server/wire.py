"""A client's connection as messages."""

from __future__ import annotations

import asyncio
import struct

from sql_server.errors import PROTOCOL, TOO_MUCH, SqlError

MOST_BYTES = 4 * 1024 * 1024
"""Longest message of a client that has signed in."""


class Wire:
    """Reads whole messages, and collects what is written until it is flushed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.most_bytes = 10_000
        """Longest message now; little before the client has signed in."""

    async def read_startup(self) -> tuple[int, bytes]:
        """Code and content of a message without a type."""
        (length,) = struct.unpack("!i", await self._reader.readexactly(4))
        if not 8 <= length <= self.most_bytes:
            raise SqlError(PROTOCOL, "invalid length of startup packet")
        content = await self._reader.readexactly(length - 4)
        return struct.unpack_from("!i", content)[0], content[4:]

    async def read(self, seconds: float | None = None) -> tuple[bytes, bytes] | None:
        """Type and content of the next message; None where the client has left.

        TimeoutError where none begins within so many seconds: nothing is lost then.
        """
        try:
            head = await asyncio.wait_for(self._reader.readexactly(5), seconds)
            kind, length = struct.unpack("!ci", head)
            if length < 4:
                raise SqlError(PROTOCOL, "invalid message length")
            if length > self.most_bytes:
                raise SqlError(TOO_MUCH, f"a message may have {self.most_bytes:,} bytes, and not {length:,}")
            return kind, await self._reader.readexactly(length - 4)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def write(self, message: bytes) -> None:
        """Send with the next flush, or before."""
        self._writer.write(message)

    async def drain(self) -> None:
        """Wait until the client has taken most of what was sent."""
        await self._writer.drain()

    flush = drain

    async def close(self) -> None:
        """Close the connection, whatever state it is in."""
        self._writer.close()
