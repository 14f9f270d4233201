"""Request bodies, decompressed here and not by aiohttp: piece by piece, and no further than their limit."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

from aiohttp import web

_PIECE = 64 * 1024
_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class BodyEncodingError(ValueError):
    """The body is not what its `Content-Encoding` says, or that encoding is not supported."""


async def body_pieces(request: web.Request) -> AsyncIterator[bytes]:
    """The decompressed body in pieces of at most 64 KiB, as long as the caller takes them. Raises BodyEncodingError."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        async for chunk in request.content.iter_chunked(_PIECE):
            yield chunk
    elif encoding in _WINDOW:
        async for piece in _decompressed(request, encoding):
            yield piece
    else:
        raise BodyEncodingError(f"Content-Encoding {encoding[:20]!r} is not supported")


async def _decompressed(request: web.Request, encoding: str) -> AsyncIterator[bytes]:
    stream = zlib.decompressobj(_WINDOW[encoding])
    try:
        async for chunk in request.content.iter_chunked(_PIECE):
            rest = chunk
            while rest and not stream.eof:
                piece = stream.decompress(rest, _PIECE)
                rest = stream.unconsumed_tail
                if piece:
                    yield piece
                await asyncio.sleep(0)  # a small chunk may be many pieces
    except zlib.error as error:
        raise BodyEncodingError(f"the body is not {encoding}") from error
    if not stream.eof:
        raise BodyEncodingError(f"the {encoding} body is cut off")


async def read_whole(request: web.Request, limit: int) -> bytes:
    """The whole body; 413 (HTTPRequestEntityTooLarge) beyond `limit` bytes, 400 if it cannot be decompressed."""
    body = bytearray()
    try:
        async for piece in body_pieces(request):
            body += piece
            if len(body) > limit:
                raise web.HTTPRequestEntityTooLarge(limit, len(body))
    except BodyEncodingError as error:
        raise web.HTTPBadRequest(reason=str(error)) from error
    return bytes(body)
