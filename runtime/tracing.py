"""Traces of messages by OpenTelemetry: off unless configured, and of no cost then.

A connector begins a trace for a share of its messages, by a span from the receipt to Kafka's acknowledgement. The trace
travels with the message as CloudEvents' distributed tracing extension (W3C `traceparent`, header `ce_traceparent`).
Every later stage adds one span per batch, which links to the traces of the messages in it (docs/adr/0027-traces.md).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from runtime.errors import StageError
from schemas.consumed import Headers
from schemas.envelope import Envelope, traceparent_of
from schemas.timestamps import to_micros
from schemas.topics import raw_topic

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, SpanContext, Tracer

_MOST_LINKS = 1000
_TIMEOUT_SECONDS = 5.0


class TracingSettings(BaseModel):
    """Section `[tracing]`: traces of messages by OpenTelemetry."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(
        default=False, description="Send traces of messages. Needs the extra `otel`: pip install 'fleetlake[otel]'."
    )
    endpoint: str = Field(
        default="",
        description="URL of an OTLP/HTTP receiver, e.g. http://localhost:4318/v1/traces. Empty: as "
        "OTEL_EXPORTER_OTLP_ENDPOINT says.",
    )
    sample_ratio: float = Field(
        default=0.01, ge=0, le=1, description="Share of the messages that are traced, chosen by the connectors."
    )


@dataclass(frozen=True)
class _Tracing:
    provider: TracerProvider
    tracer: Tracer
    sample_ratio: float


_tracing: _Tracing | None = None


def start_tracing(settings: TracingSettings, stage: str) -> None:
    """Trace from now on, if that is configured. StageError where the extra is not installed."""
    global _tracing
    if not settings.enabled:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise StageError("[tracing] enabled needs OpenTelemetry: pip install 'fleetlake[otel]'") from error
    resource = Resource.create({"service.name": f"fleetlake-{stage}", "service.namespace": "fleetlake"})
    provider = TracerProvider(resource=resource, span_limits=SpanLimits(max_links=_MOST_LINKS))
    exporter = OTLPSpanExporter(endpoint=settings.endpoint or None, timeout=_TIMEOUT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracing = _Tracing(provider, provider.get_tracer("fleetlake"), settings.sample_ratio)


def stop_tracing() -> None:
    """Send what is left, and trace no more."""
    global _tracing
    if _tracing is not None:
        _tracing.provider.shutdown()
    _tracing = None


class MessageSpan:
    """The span of one message in its connector."""

    def __init__(self, span: Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        """The span in the form of W3C Trace Context."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"

    def end(self) -> None:
        """Kafka has the message."""
        self._span.end()


def begin_message(envelope: Envelope) -> MessageSpan | None:
    """Begin the trace of a message; None where it is not traced."""
    if _tracing is None or random.random() >= _tracing.sample_ratio:
        return None
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind

    vendor = envelope.device_id.partition(":")[0]
    attributes = {
        "messaging.system": "kafka",
        "messaging.operation.type": "send",
        "messaging.destination.name": raw_topic(vendor),
        "messaging.message.id": envelope.id,
        "fleetlake.vendor": vendor,
        "fleetlake.device": envelope.device_id,
        "fleetlake.type": envelope.type,
    }
    span = _tracing.tracer.start_span(
        f"receive {envelope.type}",
        context=Context(),
        kind=SpanKind.PRODUCER,
        attributes=attributes,
        start_time=_nanos(envelope.received_at),
    )
    return MessageSpan(span)


def trace_batch(name: str, headers: Iterable[Headers], seconds: float, attributes: Mapping[str, Any]) -> None:
    """Add the span of a batch that took `seconds` and ends now, if any of its messages is traced."""
    if _tracing is None:
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanKind

    contexts = [context for each in headers if (context := _context(each)) is not None]
    if not contexts:
        return
    end = time.time_ns()
    span = _tracing.tracer.start_span(
        name,
        context=Context(),
        kind=SpanKind.CONSUMER,
        attributes={"messaging.system": "kafka", "messaging.operation.type": "process", **attributes},
        links=[Link(context) for context in contexts[:_MOST_LINKS]],
        start_time=end - int(seconds * 1e9),
    )
    span.end(end)


def _context(headers: Headers) -> SpanContext | None:
    """The trace that a record's headers name; None where they name none, or something else."""
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    traceparent = traceparent_of(headers)
    if traceparent is None:
        return None
    carrier = {"traceparent": traceparent.decode(errors="replace")}
    context = get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    return context if context.is_valid else None


def _nanos(at: datetime) -> int:
    return to_micros(at) * 1000
