"""Reference pages that are made of the code: commands, configuration, metrics, topics, HTTP APIs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import typer.main
import yaml
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

import runtime.metrics
from fleetlake.cli.main import app
from fleetlake.config import settings_class
from fleetlake.config_examples import EXAMPLES
from fleetlake.config_text import toml_value
from schemas.contract import FOLDER


def pages() -> dict[str, str]:
    """The pages by their place in the site."""
    return {
        "reference/cli.md": "\n".join(_commands()),
        "reference/configuration.md": "\n".join(_configuration()),
        "reference/metrics.md": "\n".join(_metrics()),
        "reference/topics.md": "\n".join(_topics()),
        "reference/alarms-api.md": "\n".join(_http_api("alarms-openapi.json")),
        "reference/climasense-api.md": "\n".join(_http_api("climasense-openapi.json")),
    }


def command_tree() -> Any:
    """The command with its subcommands, as click knows it."""
    return typer.main.get_command(app)


def _commands() -> Iterator[str]:
    yield "# Commands\n\nMade of the program itself; `fleetlake COMMAND --help` shows the same.\n"
    yield from _command(command_tree(), "fleetlake", 1)


def _command(command: Any, name: str, level: int) -> Iterator[str]:
    if level > 1:
        yield f"{'#' * min(level, 4)} `{name}`\n"
        yield f"{(command.help or '').strip()}\n"
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name not in ("help",)]
    if arguments or (options and level > 1):
        yield "| | |\n| --- | --- |"
        for each in arguments:
            yield f"| `{each.metavar or each.name.upper()}` | {_cell(getattr(each, 'help', '') or '')} |"
        for each in options:
            names = ", ".join(f"`{text}`" for text in (*each.opts, *each.secondary_opts))
            yield f"| {names} | {_cell(each.help or '')} |"
        yield ""
    for child in getattr(command, "commands", {}):
        yield from _command(command.commands[child], f"{name} {child}", level + 1)


def _configuration() -> Iterator[str]:
    yield "# Configuration\n\nAll keys of `fleetlake.toml`. `fleetlake config --example` prints them as a file.\n"
    yield from _section(settings_class(), "")


def _section(model: type[BaseModel], path: str) -> Iterator[str]:
    inner: list[tuple[str, type[BaseModel]]] = []
    rows: list[str] = []
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        here = f"{path}.{name}".strip(".")
        if isinstance(default, BaseModel):
            inner.append((here, type(default)))
            continue
        rows.append(f"| `{name}` | {_default(default)} | {_cell(field.description or '')}{_example(here)} |")
    if rows:
        yield f"## `[{path}]`\n\n| key | default | |\n| --- | --- | --- |"
        yield from rows
        yield ""
    for here, section in inner:
        yield from _section(section, here)


def _default(value: Any) -> str:
    if value is PydanticUndefined or value is None or isinstance(value, SecretStr) or value in ("", [], {}):
        return ""
    return f"`{_cell(str(toml_value(value, masked=True)))}`"


def _example(key: str) -> str:
    return f" Example: `{_cell(str(toml_value(EXAMPLES[key], masked=False)))}`" if key in EXAMPLES else ""


def _metrics() -> Iterator[str]:
    yield "# Metrics of the processes\n\nServed at `/metrics` ([how](../operations.md#health-and-metrics)).\n"
    yield "| metric | labels | meaning |\n| --- | --- | --- |"
    for value in vars(runtime.metrics).values():
        if isinstance(value, MetricWrapperBase):
            family = next(iter(value.collect()))
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in value._labelnames)
            yield f"| `{name}` | {labels} | {_cell(family.documentation)} |"


def _topics() -> Iterator[str]:
    document = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))
    yield f"# Topics\n\nMade of `schemas/contract/asyncapi.yaml`. {document['info']['description']}\n"
    operations = document["operations"].values()
    for name, channel in document["channels"].items():
        does = sorted({f"{o['action']}s" for o in operations if o["channel"]["$ref"].endswith(f"/{name}")})
        yield f"## `{channel['address']}`\n\n{channel['description']}. fleetlake {' and '.join(does)} it.\n"
        for message in channel["messages"]:
            yield from _message(document["components"]["messages"][message])


def _message(message: Mapping[str, Any]) -> Iterator[str]:
    key = message["bindings"]["kafka"]["key"]["description"]
    yield f"**{message['name']}**: {message['title']} Key: the {key}.\n"
    headers = message.get("headers", {})
    if headers:
        yield "| header | always | |\n| --- | --- | --- |"
        for name, field in headers["properties"].items():
            always = "yes" if name in headers.get("required", ()) else ""
            yield f"| `{name}` | {always} | {_cell(field.get('description', field.get('const', '')))} |"
        yield ""
    reference = message["payload"].get("schema", {}).get("$ref")
    if reference:
        yield from _schema(json.loads((FOLDER / reference).read_text(encoding="utf-8")))


def _schema(schema: Mapping[str, Any]) -> Iterator[str]:
    yield from _fields(schema, schema.get("title", ""))
    for name, definition in schema.get("$defs", {}).items():
        if "properties" in definition:
            yield from _fields(definition, name)


def _fields(schema: Mapping[str, Any], name: str) -> Iterator[str]:
    yield f"`{name}`\n\n| field | type | always | |\n| --- | --- | --- | --- |"
    for field, of in schema["properties"].items():
        always = "yes" if field in schema.get("required", ()) else ""
        yield f"| `{field}` | {_cell(_type(of))} | {always} | {_cell(of.get('description', ''))} |"
    yield ""


def _type(of: Mapping[str, Any]) -> str:
    if "anyOf" in of:
        return " or ".join(_type(each) for each in of["anyOf"] if each.get("type") != "null")
    if "$ref" in of:
        return str(of["$ref"].rpartition("/")[2])
    if of.get("type") == "array":
        return f"list of {_type(of.get('items', {}))}"
    return str(of.get("format") or of.get("type") or "any")


def _http_api(name: str) -> Iterator[str]:
    document = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    about = document["info"].get("description", "")
    yield f"# {document['info']['title']}\n\nMade of `schemas/contract/{name}`. {about}\n"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if not isinstance(operation, dict):
                continue
            yield f"## `{method.upper()} {path}`\n\n{operation.get('summary', '')} {operation.get('description', '')}\n"
            parameters = [p for p in operation.get("parameters", ()) if "name" in p]
            if parameters:
                yield "| parameter | in | |\n| --- | --- | --- |"
                yield from (f"| `{p['name']}` | {p['in']} | {_cell(p.get('description', ''))} |" for p in parameters)
                yield ""
            answers = operation.get("responses", {})
            yield "| answer | |\n| --- | --- |"
            yield from (f"| {status} | {_cell(of.get('description', ''))} |" for status, of in answers.items())
            yield ""


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
