"""Object stores on loopback, each a real server in its own process: moto (S3), Azurite (Azure), fake-gcs-server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from sinks.settings import DeltaSettings
from tests.support.paths import ROOT
from tests.support.waiting import passing_blocking

SERVERS = {"s3": "FLEETLAKE_S3_SERVER", "azure": "FLEETLAKE_AZURE_SERVER", "gcs": "FLEETLAKE_GCS_SERVER"}
"""Environment variables that hold each server's command; `make stores-test` sets them."""

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's account, which its documentation publishes."""


@contextmanager
def running(kind: str, port: Callable[[], int], folder: Path) -> Iterator[DeltaSettings]:
    """A store with an empty bucket, and the settings of a lake in it."""
    with {"s3": _s3, "azure": _azure, "gcs": _gcs}[kind](port, folder) as (url, options):
        yield DeltaSettings.model_validate({"url": url, "storage_options": options})


_Store = Iterator[tuple[str, dict[str, str]]]


@contextmanager
def _s3(port: Callable[[], int], _: Path) -> _Store:
    number = port()
    address = f"http://127.0.0.1:{number}"
    with _server("s3", ["-H", "127.0.0.1", "-p", str(number)]):
        _make(urllib.request.Request(f"{address}/bucket", method="PUT"))
        yield (
            "s3://bucket/fleet/lake",
            {
                "aws_endpoint_url": address,
                "aws_allow_http": "true",
                "aws_region": "us-east-1",
                "aws_access_key_id": "test",
                "aws_secret_access_key": "test",
            },
        )


@contextmanager
def _azure(port: Callable[[], int], _: Path) -> _Store:
    number, front = port(), port()
    address = f"http://127.0.0.1:{number}/{ACCOUNT}"
    still = ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent"]
    with _server("azure", ["--blobHost", "127.0.0.1", "--blobPort", str(number), *still]):
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        signed = "\n".join(f"{name}:{value}" for name, value in headers.items())
        text = f"PUT{chr(10) * 12}{signed}\n/{ACCOUNT}/{ACCOUNT}/bucket\nrestype:container"
        digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
        _make(urllib.request.Request(f"{address}/bucket?restype=container", method="PUT", headers=headers))
        with _translated(front, number):
            yield (
                "az://bucket/fleet/lake",
                {
                    "azure_storage_account_name": ACCOUNT,
                    "azure_storage_account_key": KEY,
                    "azure_endpoint": f"http://127.0.0.1:{front}/{ACCOUNT}",
                    "azure_allow_http": "true",
                },
            )


@contextmanager
def _gcs(port: Callable[[], int], folder: Path) -> _Store:
    number, front = port(), port()
    here = f"127.0.0.1:{number}"
    arguments = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(number), "-backend", "memory"]
    with ExitStack() as stack:
        stack.enter_context(_server("gcs", [*arguments, "-public-host", here]))
        body = json.dumps({"name": "bucket"}).encode()
        _make(urllib.request.Request(f"http://{here}/storage/v1/b?project=test", body, method="POST"))
        stack.enter_context(_translated(front, number))
        key = folder / "key.json"
        account = {"gcs_base_url": f"http://127.0.0.1:{front}", "disable_oauth": True}
        key.write_text(json.dumps({**account, "client_email": "", "private_key": "", "private_key_id": ""}))
        yield "gs://bucket/fleet/lake", {"google_service_account": str(key)}


@contextmanager
def _server(kind: str, arguments: Sequence[str]) -> Iterator[None]:
    command = [*shlex.split(os.environ[SERVERS[kind]]), *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield
        finally:
            server.kill()


def _make(request: urllib.request.Request) -> None:
    for _ in range(1200):  # two minutes at least: a busy machine starts Node slowly
        try:
            urllib.request.urlopen(request).close()
            return
        except OSError:
            passing_blocking(0.1, "between two attempts to connect")
    raise AssertionError("the store does not answer")


@contextmanager
def _translated(port: int, behind: int) -> Iterator[None]:
    """In a process of its own: deltalake waits for answers without letting another thread run."""
    with subprocess.Popen([sys.executable, "-m", "tests.sinks.stores", str(port), str(behind)], cwd=ROOT) as server:
        try:
            _answers(port)
            yield
        finally:
            server.kill()


def _answers(port: int) -> None:
    for _ in range(1200):  # two minutes at least: a busy machine starts Node slowly
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            passing_blocking(0.1, "between two attempts to connect")
    raise AssertionError("the translation does not answer")


def _translate(port: int, behind: int) -> None:
    """What the emulators lack of the real stores. fake-gcs-server knows uploads by Google's JSON interface only, and
    deltalake uploads by the XML one: they are translated, with the condition under which they are to be done. Both pass
    by from where a listing is to begin: what comes before it is left out here. All else goes through as it is.
    """
    parts: dict[str, dict[int, bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {
                n: v for n, v in self.headers.items() if n.lower() not in ("host", "connection", "content-length")
            }
            method, path = self.command, self.path
            query = parse_qs(urlsplit(path).query, keep_blank_values=True)
            of_google = not self.headers.get("x-ms-version")
            if of_google and ("uploads" in query or "partNumber" in query):
                self.take_part(query, body)
                return
            if of_google and "uploadId" in query:
                body = b"".join(part for _, part in sorted(parts.pop(query["uploadId"][0]).items()))
                method = "PUT"
            if of_google and method == "PUT":
                bucket, _, name = unquote(urlsplit(path).path[1:]).partition("/")
                condition = self.headers.get("x-goog-if-generation-match")
                wanted = f"&ifGenerationMatch={condition}" if condition else ""
                method = "POST"
                path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}{wanted}"
            there = http.client.HTTPConnection("127.0.0.1", behind)
            there.request(method, path, body, {**headers, "Content-Length": str(len(body))})
            answer = there.getresponse()
            data = _from_offset(answer.read(), path)
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "date"):
                    self.send_header(name, value)
            if path.startswith("/upload/") and answer.status == 200:
                etag = json.loads(data)["etag"]
                self.send_header("ETag", etag)
                data = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>".encode()
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            there.close()

        def take_part(self, query: dict[str, list[str]], body: bytes) -> None:
            if "uploads" in query:
                name = uuid.uuid4().hex
                parts[name] = {}
                answer = f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
            else:
                parts[query["uploadId"][0]][int(query["partNumber"][0])] = body
                answer = ""
            self.send_response(200)
            self.send_header("ETag", "part")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward

        def log_message(self, *_: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


_ITEM = re.compile(rb"<(Contents|Blob)><(Key|Name)>([^<]*)</.*?</\1>", re.DOTALL)


def _from_offset(listing: bytes, path: str) -> bytes:
    query = parse_qs(urlsplit(path).query)
    after, since = query.get("start-after", [""])[0].encode(), query.get("startFrom", [""])[0].encode()
    if not after and not since:
        return listing
    return _ITEM.sub(lambda item: item[0] if item[3] > after and item[3] >= since else b"", listing)


if __name__ == "__main__":
    _translate(*map(int, sys.argv[1:]))
