"""An OTLP/HTTP receiver of the tests' own: it keeps the spans that processes send."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from runtime.http_server import serving


@dataclass(frozen=True)
class ReceivedSpan:
    """A span, as far as tests look at it."""

    service: str
    name: str
    trace: str
    span: str
    links: frozenset[tuple[str, str]]
    """Trace and span of each link."""
    seconds: float
    attributes: dict[str, str | int]


@dataclass
class Receiver:
    """The spans that came so far."""

    url: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        """Take an export, as the protocol says."""
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        export = ExportTraceServiceRequest.FromString(body)
        for resource in export.resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        ReceivedSpan(
                            named["service.name"],
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            frozenset((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                            (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                            {a.key: a.value.string_value or a.value.int_value for a in span.attributes},
                        )
                    )
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")

    def way_of(self, span: ReceivedSpan) -> dict[str, ReceivedSpan]:
        """The spans that link to this one, by name."""
        return {each.name: each for each in self.spans if (span.trace, span.span) in each.links}


@asynccontextmanager
async def otlp_receiver() -> AsyncIterator[Receiver]:
    """A receiver on loopback."""
    receiver = Receiver()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/traces", receiver.take)
    async with serving(app, "127.0.0.1", 0, "OTLP") as port:
        receiver.url = f"http://127.0.0.1:{port}/v1/traces"
        yield receiver
