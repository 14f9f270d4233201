"""The port on which each stage of `fleetlake up` serves its health and metrics."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from fleetlake.errors import UserError, reason
from runtime.ports import free_port

OFFSETS = {"connect": 0, "delta": 1, "duckdb": 2, "alarms": 3, "ui": 4, "simulate": 5, "sql": 6}
"""Distance of a stage's port from `[pipeline] health_port`, as docs/operations.md says and Prometheus is told."""

FIRST_STREAM_WORKER = 10
"""Distance of the first stream worker's port; the others follow it."""

_HIGHEST_PORT = 65_535


def health_ports(base: int, host: str, stages: Iterable[str]) -> dict[str, int]:
    """The health port of each stage: fixed ones from a positive `base`, else free ones.

    UserError where a fixed port does not exist, or another program listens on it.
    """
    if base <= 0:
        return {stage: free_port() for stage in stages}
    ports = fixed_ports(base, stages)
    for stage, port in ports.items():
        _require_free(stage, host, port)
    return ports


def fixed_ports(base: int, stages: Iterable[str]) -> dict[str, int]:
    """The fixed port of each stage, whether it is free or not. KeyError for a stage that has none."""
    ports, workers = {}, 0
    for stage in stages:
        if stage.startswith("stream"):
            ports[stage] = base + FIRST_STREAM_WORKER + workers
            workers += 1
        else:
            ports[stage] = base + OFFSETS[stage]
    if max(ports.values(), default=0) > _HIGHEST_PORT:
        raise UserError(
            f"[pipeline] health_port: stages get ports up to {max(ports.values())}; the highest is {_HIGHEST_PORT}"
        )
    return ports


def probe_host(host: str) -> str:
    """Where this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, f"[{host}]" if ":" in host else host)


def _require_free(stage: str, host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"[pipeline] health_port: port {port}, of stage {stage}: {reason(error)}") from error
