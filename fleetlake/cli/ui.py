"""`fleetlake ui`: the live page."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from fleetlake.cli.options import ConfigOption, DataOption, read_settings


def ui(
    config: ConfigOption = None,
    data: DataOption = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; default [ui] port.")] = None,
) -> None:
    """Serve the live page: fleet, map, devices, alarms, pipeline and SQL in a browser.

    Whether the pipeline runs or not. People sign in with a key of the alarm service (`fleetlake alarms keys create`).
    """
    from fleetlake.stages import resolve_kafka, run_and_exit, ui_stage
    from ui.tools import UiTools

    settings = read_settings(config, data)

    def examine() -> list[dict[str, str]]:
        from fleetlake.ops.doctor.examination import examine

        return [asdict(finding) for finding in examine(settings, lambda: resolve_kafka(settings))]

    trial = [sys.executable, "-m", "fleetlake", "rules", "test", "--json", "--data", str(settings.pipeline.data)]
    tools = UiTools(examine, [*trial, *(("--config", str(config)) if config else ())])
    if port is not None:
        settings.ui.port = port
    run_and_exit(settings, "ui", ui_stage(settings, tools))
