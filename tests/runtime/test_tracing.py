"""Traces: one span per message in its connector, one per batch behind it, and nothing at all where they are off."""

from __future__ import annotations

import asyncio
import builtins
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from runtime import tracing
from runtime.errors import StageError
from runtime.tracing import TracingSettings, begin_message, start_tracing, stop_tracing, trace_batch
from schemas.consumed import Headers
from schemas.envelope import TRACEPARENT, Envelope, read_envelope, traceparent_of
from schemas.topics import EVENTS, READINGS
from streams.normalise import Options
from streams.normalise.operator import NormaliseOperator
from tests.support.otlp import otlp_receiver
from tests.support.paths import ROOT
from tests.support.records import DEVICE, record_of

RAW = "telemetry.raw.karcher.v1"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def message(number: int = 1, **attributes: str) -> Envelope:
    body = f'{{"type":"datapoints","data":{{"batteryChargeLevel":"0.5{number}"}},"timestamp":1795833000200}}'
    now = datetime.now(UTC)
    return Envelope(
        f"m{number}", "karcher.datapoints", "karcher/websocket", DEVICE, now, body.encode(), attributes=attributes
    )


async def test_a_message_and_the_batches_it_went_through_reach_the_receiver() -> None:
    async with otlp_receiver() as receiver:
        start_tracing(TracingSettings(enabled=True, endpoint=receiver.url, sample_ratio=1), "connect")
        try:
            span = begin_message(message())
            assert span is not None
            other: Headers = [("ce_id", b"2")]
            mine: Headers = [("ce_id", b"1"), ("ce_traceparent", span.traceparent.encode())]
            wrong: Headers = [("ce_traceparent", b"nonsense")]
            span.end()
            trace_batch("write readings", [other, mine, wrong], 0.25, {"messaging.batch.message_count": 3})
            trace_batch("without any", [other], 0.25, {})
        finally:
            await asyncio.to_thread(stop_tracing)
    first, batch = receiver.spans
    assert (first.name, first.service) == ("receive karcher.datapoints", "fleetlake-connect")
    assert span.traceparent == f"00-{first.trace}-{first.span}-01"
    assert first.attributes["fleetlake.device"] == DEVICE and first.attributes["messaging.destination.name"] == RAW
    assert batch.links == {(first.trace, first.span)} and batch.trace != first.trace
    assert batch.seconds == pytest.approx(0.25) and batch.attributes["messaging.batch.message_count"] == 3


async def test_a_share_of_the_messages_is_traced() -> None:
    async with otlp_receiver() as receiver:
        start_tracing(TracingSettings(enabled=True, endpoint=receiver.url, sample_ratio=0.5), "connect")
        try:
            spans = [begin_message(message()) for _ in range(200)]
        finally:
            await asyncio.to_thread(stop_tracing)
    assert 50 < sum(span is not None for span in spans) < 150
    assert begin_message(message()) is None


def test_the_trace_travels_from_the_raw_record_to_what_is_made_of_it() -> None:
    traced, plain = message(1, **{TRACEPARENT: TRACE}), message(2)
    records = [
        record_of(e.data, offset, RAW, headers=[(name, value) for name, value in e.headers()])
        for offset, e in enumerate((traced, plain))
    ]
    assert read_envelope(traced.data, traced.headers()) == traced
    outputs = NormaliseOperator(RAW, Options()).process(records, 1_795_833_000_300_000)
    made = [output for output in outputs if output.topic in (READINGS, EVENTS)]
    assert [traceparent_of(output.headers) for output in made] == [TRACE.encode(), None]


def test_switched_off_nothing_of_it_is_loaded() -> None:
    script = (
        "import sys\n"
        "import connectors.common.publisher, streams.worker, sinks.consumer, fleetlake.stages\n"
        "from runtime.tracing import TracingSettings, start_tracing, trace_batch\n"
        "start_tracing(TracingSettings(), 'connect')\n"
        "trace_batch('x', [[('ce_traceparent', b'y')]], 1, {})\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(StageError, match=r"pip install 'fleetlake\[otel\]'"):
        start_tracing(TracingSettings(enabled=True), "connect")
    assert tracing._tracing is None
