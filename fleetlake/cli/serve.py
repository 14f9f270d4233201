"""`fleetlake serve …`: servers by which other programs read the tables."""

from __future__ import annotations

from typing import Annotated

import typer

from fleetlake.cli.options import ConfigOption, DataOption, read_settings

serve = typer.Typer(
    help="Serve the tables to other programs: `sql` for BI tools.", no_args_is_help=True, rich_markup_mode=None
)


@serve.callback()
def _group() -> None:
    """Keep `sql` a subcommand although it is the only one."""


@serve.command("sql")
def sql(
    config: ConfigOption = None,
    data: DataOption = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; default [sql] port.")] = None,
) -> None:
    """Serve the tables over PostgreSQL's protocol, read-only, to Grafana, Metabase, Superset, psql and JDBC.

    Whether the pipeline runs or not. The database is `fleet`, the user any name, and the password a key of the alarm
    service (`fleetlake alarms keys create NAME --role read`).
    """
    from fleetlake.stages import run_and_exit, sql_stage

    settings = read_settings(config, data)
    if port is not None:
        settings.sql.port = port
    run_and_exit(settings, "sql", sql_stage(settings))
