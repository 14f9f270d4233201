"""Each stage of `up` has the port that the document says, so that Prometheus can be told where to look."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from fleetlake.config import load_settings
from fleetlake.errors import UserError
from fleetlake.local.health_ports import FIRST_STREAM_WORKER, OFFSETS, fixed_ports, health_ports, probe_host
from fleetlake.local.orchestrator import Orchestrator
from tests.support.paths import ROOT


def test_fixed_ports_are_the_documented_ones() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    rows = {stage: int(port) for stage, port in re.findall(r"^\| `(\w+)`[^|]*\| \+ \d+[^|]*\| (\d+)", text, re.M)}
    assert rows == {name: 9100 + offset for name, offset in {**OFFSETS, "stream": FIRST_STREAM_WORKER}.items()}
    assert fixed_ports(9100, rows) == rows
    assert fixed_ports(9100, ["stream", "stream-2", "delta"]) == {"stream": 9110, "stream-2": 9111, "delta": 9101}


def test_a_stage_that_is_left_out_moves_no_other() -> None:
    assert fixed_ports(9100, ["duckdb"]) == {"duckdb": 9102}


def test_ports_end_somewhere() -> None:
    with pytest.raises(UserError, match="ports up to 65540; the highest is 65535"):
        fixed_ports(65_530, ["stream"])


def test_without_a_base_the_ports_are_free_ones() -> None:
    for base in (-1, 0):
        ports = health_ports(base, "127.0.0.1", ["connect", "delta"])
        assert list(ports) == ["connect", "delta"] and min(ports.values()) > 1024


def test_a_port_that_is_taken_is_named_with_its_stage(unused_port: Callable[[], int]) -> None:
    with socket.create_server(("127.0.0.1", unused_port())) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port}, of stage delta: address already in use"):
            health_ports(port - OFFSETS["delta"], "127.0.0.1", ["delta"])


@pytest.mark.parametrize(
    ("listens", "asked"),
    [("0.0.0.0", "127.0.0.1"), ("127.0.0.2", "127.0.0.2"), ("::", "[::1]"), ("fe80::1", "[fe80::1]")],
)
def test_a_stage_is_asked_where_it_listens(listens: str, asked: str) -> None:
    assert probe_host(listens) == asked


def test_every_stage_of_up_has_a_port(tmp_path: Path) -> None:
    on = {"enabled": True}
    settings = load_settings(None, pipeline={"data": tmp_path}, ui=on, alarms=on, sql=on)
    stages = Orchestrator(settings, tmp_path / "x.toml", Console(), simulate=True).stages()
    assert set(fixed_ports(9100, stages)) == {*OFFSETS, "stream"}
