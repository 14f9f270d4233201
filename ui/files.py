"""The files of the page, read at the start. Nothing else is ever served from disk."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}
_PAGE = "index.html"
_LEAST_TO_COMPRESS = 1024


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    compressed: bytes | None
    content_type: str
    etag: str


class StaticFiles:
    """The page's own files by their path. OSError where they cannot be read."""

    def __init__(self, folder: Path = _FOLDER) -> None:
        paths = (path for path in sorted(folder.rglob("*")) if path.suffix in _TYPES)
        self._files = {path.relative_to(folder).as_posix(): _read(path) for path in paths}

    def page(self, request: web.Request) -> web.Response:
        """The HTML page; its script reads the address and shows what it names."""
        return self._answer(self._files[_PAGE], request)

    def file(self, request: web.Request) -> web.Response:
        """One file. HTTPNotFound for every path that is not one of ours."""
        one = self._files.get(request.match_info["path"])
        if one is None:
            raise web.HTTPNotFound
        return self._answer(one, request)

    def _answer(self, one: _File, request: web.Request) -> web.Response:
        # Asked for anew each time, since a newer version of the package has the same names; mostly it is a 304.
        headers = {"ETag": f'"{one.etag}"', "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("If-None-Match", "").removeprefix("W/") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = one.content_type
        if one.compressed is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return web.Response(body=one.compressed, headers=headers)
        return web.Response(body=one.content, headers=headers)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    compressed = gzip.compress(content, 6, mtime=0) if len(content) >= _LEAST_TO_COMPRESS else None
    return _File(content, compressed, _TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:20])
