"""`fleetlake demo`: the whole pipeline against simulated vendors."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

from fleetlake.config import Settings, load_settings
from fleetlake.local.up import run_pipeline
from runtime.log import configure_logging
from runtime.ports import free_port
from runtime.private_files import set_umask
from schemas.vendors import BUILT_IN
from simulators.climasense import write_keys
from simulators.ogmen.payloads import build_fleet
from streams.detect.rule_compiler import DEFAULT_RULES
from ui.settings import UiSettings


def run_demo(seconds: int, devices: int, data: Path) -> int:
    """Run for this many seconds (0: until Ctrl-C) and stop cleanly; the exit status."""
    set_umask(load_settings(None).pipeline.umask)
    data.mkdir(parents=True, exist_ok=True)
    settings = demo_settings(data, devices)
    configure_logging(settings.log_options)
    title = f"fleetlake demo: {devices} devices of {len(BUILT_IN)} vendors, data in {data}"
    return asyncio.run(run_pipeline(settings, seconds, title, simulate=True))


def demo_settings(data: Path, devices: int) -> Settings:
    """The configuration of the demo: every vendor on, pointed at its simulator on a free port of loopback.

    Written to `effective.toml` in the data folder like any other, and so an example of a working one. Secrets are the
    simulators' own and open nothing else.
    """
    (data / "rules.yaml").write_text(DEFAULT_RULES, encoding="utf-8")
    ports = {name: free_port() for name in ("karcher", "ogmen", "webhook", "wayscloud", "mqtt", "climasense")}
    counts = _share(devices)
    simulate = load_settings(None, simulate=_simulators(data, counts, ports)).simulate
    write_keys(data / "climasense-keys.json", counts["climasense"], simulate.seed)
    base = f"127.0.0.1:{ports['karcher']}"
    return load_settings(
        None,
        pipeline={"data": data, "vendors": list(BUILT_IN)},
        kafka={"partitions": 2},  # two cores serve a demo; more partitions would only cost start-up time
        simulate=_simulators(data, counts, ports),
        karcher={
            "token_url": f"http://{base}/oauth2/token",
            "api_url": f"http://{base}/external/v1",
            "socket_url": f"ws://{base}",
            "client_id": simulate.karcher.client_id,
            "client_secret": simulate.karcher.client_secret,
            "status_seconds": 2.0,  # only statuses report the battery, and a demo is short
        },
        ogmen={
            "socket_url": f"ws://127.0.0.1:{ports['ogmen']}/ws/{{device_id}}",
            "api_url": f"http://127.0.0.1:{ports['ogmen']}",
            "devices": [r.device_id for r in build_fleet(simulate.seed, counts["ogmen"], simulate.cycle_seconds)],
            "state_seconds": 2.0,
            "log_seconds": 10.0,
            "webhook_port": ports["webhook"],
            "webhook_secret": simulate.ogmen.webhook_secret,
        },
        wayscloud={
            "mqtt_host": "127.0.0.1",
            "mqtt_port": ports["mqtt"],
            "mqtt_tls": False,
            "mqtt_version": "3.1.1",  # what the embedded MQTT broker speaks
            "api_url": f"http://127.0.0.1:{ports['wayscloud']}",
            "api_key": simulate.wayscloud.api_key,
        },
        climasense={"port": ports["climasense"], "keys_file": data / "climasense-keys.json"},
        stream={"rules_file": data / "rules.yaml"},
        ui={"port": _ui_port(), "sign_in": False},
        sink={"delta": {"flush_seconds": 1.0}, "duckdb": {"publish_seconds": 2.0}},  # a demo is watched
    )


def _ui_port() -> int:
    """The usual port of the live page, or a free one where that is taken."""
    usual = UiSettings().port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", usual))
        except OSError:
            return free_port()
    return usual


def _share(devices: int) -> dict[str, int]:
    """The devices of each vendor: as even as it gets, the first vendors taking what is left over."""
    each, rest = divmod(devices, len(BUILT_IN))
    return {vendor: each + (index < rest) for index, vendor in enumerate(BUILT_IN)}


def _simulators(data: Path, counts: dict[str, int], ports: dict[str, int]) -> dict[str, Any]:
    return {
        "truth_file": data / "truth.jsonl",
        "karcher": {"devices": counts["karcher"], "port": ports["karcher"]},
        "ogmen": {
            "devices": counts["ogmen"],
            "port": ports["ogmen"],
            "cross_battery": True,
            "webhook_url": f"http://127.0.0.1:{ports['webhook']}/alerts/{{device_id}}",
        },
        "wayscloud": {"devices": counts["wayscloud"], "port": ports["wayscloud"], "mqtt_port": ports["mqtt"]},
        "climasense": {"devices": counts["climasense"], "url": f"http://127.0.0.1:{ports['climasense']}"},
    }
