"""Commands that run the pipeline or one process of it: `up`, `connect`, `stream`, `sink`, `broker`, `simulate`."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from fleetlake.cli.options import ConfigOption, DataOption, RunTimeOption, read_settings
from schemas.vendors import BUILT_IN


class SinkName(StrEnum):
    """The sinks."""

    DELTA = "delta"
    DUCKDB = "duckdb"


def up(
    config: ConfigOption = None,
    data: DataOption = None,
    seconds: RunTimeOption = timedelta(),
) -> None:
    """Run all stages that the configuration names.

    Each stage is a process of its own and is restarted if it fails.
    """
    from fleetlake.local.up import run_up

    settings = read_settings(config, data)
    raise typer.Exit(run_up(settings, round(seconds.total_seconds())))


def connect(
    vendors: Annotated[list[str] | None, typer.Argument(help="Vendors; default [pipeline] vendors.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Write what vendors send to the raw topics."""
    from fleetlake.stages import connect_stage, run_and_exit

    settings = read_settings(config, data)
    run_and_exit(settings, "connect", connect_stage(settings, vendors or []))


def stream(config: ConfigOption = None, data: DataOption = None) -> None:
    """Normalise messages, drop duplicates and detect alarms.

    Runs one Faust worker; start several to share the load.
    """
    from fleetlake.stages import run_and_exit, stream_stage

    settings = read_settings(config, data)
    run_and_exit(settings, "stream", stream_stage(settings))


def sink(
    name: Annotated[SinkName | None, typer.Argument(help="Which sink; default both.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Write the lake (delta) and publish fleet.duckdb (duckdb)."""
    from fleetlake.stages import run_and_exit, sink_stage

    settings = read_settings(config, data)
    names = [name.value] if name else [s.value for s in SinkName]
    run_and_exit(settings, name.value if name else "sink", sink_stage(settings, names))


def broker(
    config: ConfigOption = None,
    data: DataOption = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 picks a free one.")] = None,
) -> None:
    """Run the embedded Kafka broker.

    It is a real Kafka and needs neither Java nor Docker. The first start downloads it.
    """
    from fleetlake.local.broker import run_broker
    from runtime.private_files import set_umask
    from runtime.process import stop_with_supervisor

    stop_with_supervisor()
    settings = read_settings(config, data)
    set_umask(settings.pipeline.umask)
    chosen = settings.broker.port if port is None else port
    run_broker(settings.pipeline.data, chosen, heap=f"{settings.broker.heap_megabytes}m")


def simulate(
    vendor: Annotated[str, typer.Argument(help=f"{', '.join(BUILT_IN)}, another registered vendor, or all.")],
    config: ConfigOption = None,
) -> None:
    """Run a vendor's simulated cloud and devices."""
    from fleetlake.stages import run_and_exit, simulate_stage

    settings = read_settings(config, None)
    run_and_exit(settings, "simulate", simulate_stage(settings, vendor))
