"""Commands that query the tables: `fleetlake sql`, `plot` and `export`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fleetlake.cli.options import ConfigOption, DataOption
from fleetlake.errors import UserError, reason

FileOption = Annotated[Path | None, typer.Option("--file", "-f", help="Read the query from this file.")]


class OutputFormat(StrEnum):
    """How `fleetlake sql` prints."""

    TABLE = "table"
    LINE = "line"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"
    PARQUET = "parquet"


def sql(
    statement: Annotated[str | None, typer.Argument(help="SQL query; - reads it from standard input.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    file: FileOption = None,
    form: Annotated[
        OutputFormat | None, typer.Option("--format", help="Default: table, or what the ending of --output names.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=0, help="At most this many rows; 0: all. Default: 1000 for table and markdown, else all."),
    ] = None,
) -> None:
    """Query the tables; without a query on a terminal, open a shell.

    Queries see the full history, at any moment, whether the pipeline runs or not. `.tables` lists the tables.
    """
    folder = _folder(config, data)
    text = _text(statement, file)
    if text is None:
        from fleetlake.cli.shell import run_shell

        run_shell(folder)
    elif text.lstrip().startswith("."):
        _dot_command(folder, text)
    else:
        _answer(folder, text, _format(form, output), output, limit)


def plot(
    statement: Annotated[
        str | None, typer.Argument(help="A query that returns a time and numbers; - reads it from standard input.")
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    file: FileOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Draw to this .png, .svg or .pdf (needs matplotlib).")
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the plot.")] = "",
    width: Annotated[int | None, typer.Option(min=20, help="Width in columns; default the terminal's.")] = None,
    height: Annotated[int | None, typer.Option(min=5, help="Height in lines; default the terminal's.")] = None,
) -> None:
    """Draw a time series in the terminal, or to a file.

    Plots the numbers of a query against its first time column. A text column makes one line per value.
    """
    from fleetlake.cli.plot import plot as draw
    from fleetlake.session import Session

    with Session(_folder(config, data)) as session:
        draw(session.ask(_needed(statement, file)), title, output, width, height)


def export(
    to: Annotated[Path, typer.Option("--to", "-t", help="File: .parquet, .csv, .csv.gz or .json (lines).")],
    statement: Annotated[str | None, typer.Argument(help="SQL query; - reads it from standard input.")] = None,
    table: Annotated[str | None, typer.Option(help="Export a whole table or view, in place of a query.")] = None,
    where: Annotated[str | None, typer.Option(help="With --table: only rows that meet this SQL condition.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    file: FileOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write the result of a query, or a table, as Parquet, CSV or JSON lines.

    The file appears when it is complete.
    """
    from fleetlake.session import Session

    if table and (statement or file):
        raise UserError("give either a query or --table, not both")
    if where and not table:
        raise UserError("--where goes with --table; a query has its own WHERE")
    query = _of_table(table, where) if table else _needed(statement, file)
    if to.exists() and not overwrite:
        raise UserError(f"{to} exists already; --overwrite replaces it")
    with Session(_folder(config, data)) as session:
        rows = session.write(query, to)
    typer.echo(f"{rows:,} rows, {to.stat().st_size:,} bytes: {to}", err=True)


def _answer(folder: Path, text: str, form: OutputFormat, output: Path | None, limit: int | None) -> None:
    from fleetlake.cli.output import DEFAULT_LIMIT, WRITERS
    from fleetlake.session import Session, require_folder

    with Session(folder) as session:
        if output and form.value not in DEFAULT_LIMIT:
            query = text if not limit else f"FROM ({text.strip().rstrip(';')}\n) LIMIT {limit}"
            ending = "" if output.name.endswith(".csv.gz") and form is OutputFormat.CSV else f".{form.value}"
            rows = session.write(query, output, ending)
            typer.echo(f"{rows:,} rows: {output}", err=True)
            return
        if form is OutputFormat.PARQUET:
            raise UserError("Parquet cannot be printed: add --output FILE.parquet")
        if (answer := session.ask(text)) is None:
            raise UserError("the query is empty; `fleetlake sql --help` shows how to give one")
        most = DEFAULT_LIMIT.get(form.value, 0) if limit is None else limit
        if output:
            require_folder(output)
            with output.open("w", encoding="utf-8") as out:
                WRITERS[form.value](answer, out, most)
        else:
            _to_stdout(lambda: WRITERS[form.value](answer, sys.stdout, most))


def _to_stdout(write: Callable[[], None]) -> None:
    """Write, and exit quietly when the reader (`head`) stops reading."""
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def _dot_command(folder: Path, text: str) -> None:
    from fleetlake.cli.shell import Shell
    from fleetlake.session import Session

    with Session(folder) as session:
        Shell(session).run(text)


def _format(form: OutputFormat | None, output: Path | None) -> OutputFormat:
    by_ending = {
        ".csv": OutputFormat.CSV,
        ".gz": OutputFormat.CSV,
        ".json": OutputFormat.JSON,
        ".jsonl": OutputFormat.JSON,
        ".parquet": OutputFormat.PARQUET,
        ".md": OutputFormat.MARKDOWN,
    }
    return form or (by_ending.get(output.suffix, OutputFormat.TABLE) if output else OutputFormat.TABLE)


def _text(statement: str | None, file: Path | None) -> str | None:
    """The query that is given or piped in; None on a terminal without a query."""
    if statement and statement != "-":
        if file:
            raise UserError("give either a query or --file, not both")
        return statement
    if file:
        try:
            return file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the query from {file}: {reason(error)}") from error
    return None if statement is None and sys.stdin.isatty() else sys.stdin.read()


def _needed(statement: str | None, file: Path | None) -> str:
    if text := _text(statement, file):
        return text
    raise UserError("no query: give one as an argument, with --file, or on standard input")


def _of_table(table: str, where: str | None) -> str:
    name = table.replace('"', '""')
    return f'FROM "{name}"' + (f" WHERE {where}" if where else "")


def _folder(config: Path | None, data: Path | None) -> Path:
    """The data folder. Reads the configuration only if there is one, since that takes longer than most queries."""
    from fleetlake.api import DEFAULT_DATA

    if config:
        os.environ["FLEETLAKE_CONFIG"] = str(config)  # by which a lake with a URL finds its credentials
    if data:
        return data
    configured = config or Path("fleetlake.toml").exists() or any(name.startswith("FLEETLAKE_") for name in os.environ)
    if not configured:
        return DEFAULT_DATA
    from fleetlake.config import load_settings

    return load_settings(config).pipeline.data
