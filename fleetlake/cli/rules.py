"""`fleetlake rules …`: check alarm rules, try them, and put them in force while everything runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Container, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleetlake.cli.kafka import run_on_kafka
from fleetlake.cli.options import ConfigOption, DataOption, JsonOption, moment, read_settings
from fleetlake.cli.output import print_table, time_text
from fleetlake.errors import UserError

if TYPE_CHECKING:
    from fleetlake.config import Settings
    from fleetlake.ops.rules_trial import Trial
    from schemas import wire
    from schemas.records import AlarmRule
    from schemas.rules import RefusedRule

rules = typer.Typer(
    help="Alarm rules: check them, try them on recorded readings, put them in force.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _print_schema(wanted: bool) -> None:
    if wanted:
        from schemas.rules_schema import file_schema

        typer.echo(json.dumps(file_schema(), indent=1))
        raise typer.Exit


@rules.callback()
def _rules(
    schema: Annotated[
        bool,
        typer.Option(
            "--schema",
            is_eager=True,
            callback=_print_schema,
            help="Print the JSON Schema of a rules file, by which editors check it, and exit.",
        ),
    ] = False,
) -> None:
    """Options of the group itself."""


FileArgument = Annotated[
    Path | None,
    typer.Argument(help="File of rules (YAML or JSON); - reads standard input. Default: rules_file in [stream]."),
]
Client = Mapping[str, Any]
"""What `runtime.kafka.client_options` gives."""
_TIMES = "a time (UTC unless it names a zone), or 24h, 7d for a time ago"
RuleArgument = Annotated[str, typer.Argument(help="The rule's id.")]


@rules.command("check")
def check_rules(file: FileArgument = None, config: ConfigOption = None) -> None:
    """Show which rules of a file are valid, and what is wrong with the others.

    Status 1 if any is refused. A metric that no vendor sends, and an inhibitor that is no rule, are warned of.
    """
    settings = read_settings(config, None)
    valid, refused = _read(file, settings)
    print_table(("rule", "type", "scope", "condition"), [_described(rule) for rule in valid])
    _warn_of_inhibitors(valid, [rule.id for rule in valid])
    _warn_of_metrics(valid, settings)
    _leave(refused)


@rules.command("list")
def list_rules(as_json: JsonOption = False, config: ConfigOption = None, data: DataOption = None) -> None:
    """Show the rules of the running pipeline."""
    from streams.detect.rules_topic import read_rules

    valid, refused = run_on_kafka(read_settings(config, data), read_rules)
    if as_json:
        typer.echo(json.dumps([rule.model_dump(mode="json", exclude_none=True) for _, rule in sorted(valid.items())]))
        _leave(refused)
        return
    rows = [_listed(rule) for _, rule in sorted(valid.items())]
    print_table(("rule", "type", "scope", "condition", "severity", "enabled", "from", "changed"), rows)
    _leave(refused)


@rules.command("apply")
def apply_rules(
    file: FileArgument = None,
    prune: Annotated[bool, typer.Option("--prune", help="Delete the rules that are not in the file.")] = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Put the rules of a file in force, in place of those with the same ids.

    Running workers use them within seconds. Rules that are refused stay as they were; status 1 if there are any.
    """
    settings = read_settings(config, data)
    valid, refused = _read(file, settings)
    kept = {rule.id for rule in valid} | {rule.rule_id for rule in refused}
    run_on_kafka(settings, lambda client: _put(client, settings, valid, "cli", kept if prune else None))
    _leave(refused)


@rules.command("import")
def import_rules(
    file: Annotated[Path, typer.Argument(help="File with WAYSCloud's answer; - reads standard input.")] = Path("-"),
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Put rules in force that WAYSCloud returned as JSON: a list, `{"rules": […]}`, or one rule.

    The scope `fleet` becomes the scope `vendor`: the account's devices.

    WAYSCloud's list of rules leaves out `config`: read each rule by its id, and put them into one list.
    """
    settings = read_settings(config, data)
    valid, refused = _read(file, settings, is_foreign=True)
    ours = [_of_account(rule) for rule in valid]
    run_on_kafka(settings, lambda client: _put(client, settings, ours, "wayscloud", None))
    _leave(refused)


def _of_account(rule: AlarmRule) -> AlarmRule:
    """The rule for the account's devices: WAYSCloud's fleet is not that of other vendors."""
    scope = {"scope_type": "vendor", "scope_vendor": "wayscloud"}
    return rule.model_copy(update=scope) if rule.scope_type == "fleet" else rule


@rules.command("enable")
def enable_rule(rule_id: RuleArgument, config: ConfigOption = None, data: DataOption = None) -> None:
    """Enable a rule."""
    run_on_kafka(read_settings(config, data), partial(_switch, rule_id=rule_id, enabled=True))


@rules.command("disable")
def disable_rule(rule_id: RuleArgument, config: ConfigOption = None, data: DataOption = None) -> None:
    """Disable a rule. Its open alarms resolve."""
    run_on_kafka(read_settings(config, data), partial(_switch, rule_id=rule_id, enabled=False))


@rules.command("test")
def test_rules(
    file: FileArgument = None,
    since: Annotated[
        datetime | None,
        typer.Option("--from", parser=moment, metavar="TIME", help=f"Received since: {_TIMES}."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--to", parser=moment, metavar="TIME", help=f"Received before: {_TIMES}."),
    ] = None,
    recording: Annotated[
        Path | None, typer.Option(help="File of JSON lines as on the readings topic, in place of the lake.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show which alarms the rules of a file would have raised on recorded readings.

    Nothing is written, and Kafka is not needed. Without a recording, the readings come from the lake: all of them, or
    those of a time range. Rules that are not enabled are left out.
    """
    from fleetlake.ops.rules_trial import Known, from_lake, from_recording, try_rules

    settings = read_settings(config, data)
    valid, refused = _read(file, settings)
    known = Known()
    if recording is not None:
        observations = from_recording(recording, since, until)
    else:
        observations, known = from_lake(settings.pipeline.data, since, until)
    _warn_of_metrics(valid, settings)
    trial = try_rules([rule for rule in valid if rule.is_enabled], settings.stream, observations, known, until)
    if as_json:
        typer.echo(_trial_json(trial, refused))
        _leave(refused)
        return
    print_table(
        ("device", "rule", "severity", "triggered", "resolved", "count", "message"),
        [_alarm_row(alarm) for alarm in trial.alarms],
    )
    typer.echo(
        f"{len(trial.alarms)} alarms of {len(valid)} rules in {trial.readings:,} readings of {trial.devices} devices"
        + (f", {time_text(trial.first)} to {time_text(trial.last)}" if trial.first else "")
    )
    _leave(refused)


def _trial_json(trial: Trial, refused: Sequence[RefusedRule]) -> str:
    """A trial's result for programs; times are RFC 3339."""
    import msgspec

    content = {
        "alarms": trial.alarms,
        "readings": trial.readings,
        "devices": trial.devices,
        "first": trial.first,
        "last": trial.last,
        "refused": [str(rule) for rule in refused],
    }
    return msgspec.json.encode(content).decode()


def _alarm_row(alarm: wire.Alarm) -> tuple[str, ...]:
    mark = " (flapping)" if alarm.flapping else ""
    return (
        alarm.device_id,
        alarm.rule_id,
        alarm.severity,
        time_text(alarm.triggered_at),
        time_text(alarm.resolved_at) or alarm.status,
        f"{alarm.occurrence_count}{mark}",
        alarm.message,
    )


async def _put(
    client: Client, settings: Settings, valid: Sequence[AlarmRule], source: str, kept: set[str] | None
) -> None:
    """Publish the rules that differ from the topic; with `kept`, delete all others. Prints each change."""
    from streams.detect.rules_topic import read_rules, write_rules

    known, _ = await read_rules(client)
    now = datetime.now(UTC)
    changes: dict[str, AlarmRule | None] = {}
    rows: list[tuple[str, ...]] = []
    for rule in valid:
        before = known.get(rule.id)
        if before is not None and _content(before) == _content(rule):
            rows.append((rule.id, "unchanged"))
            continue
        made = rule.created_at or (before.created_at if before else now)
        changes[rule.id] = rule.model_copy(update={"source": source, "created_at": made, "updated_at": now})
        rows.append((rule.id, "added" if before is None else "changed"))
    for name in sorted(known.keys() - kept) if kept is not None else ():
        changes[name] = None
        rows.append((name, "deleted"))
    await write_rules(client, changes)
    print_table(("rule", ""), rows)
    _warn_of_inhibitors(valid, {*known, *changes} - {name for name, rule in changes.items() if rule is None})
    _warn_of_metrics(valid, settings)


async def _switch(client: Client, rule_id: str, *, enabled: bool) -> None:
    from streams.detect.rules_topic import read_rules, write_rules

    known, _ = await read_rules(client)
    if rule_id not in known:
        raise UserError(f"no rule has the id {rule_id!r}; `fleetlake rules list` shows them")
    rule = known[rule_id]
    if rule.is_enabled is not enabled:
        changes = {"is_enabled": enabled, "updated_at": datetime.now(UTC), "source": "cli"}
        await write_rules(client, {rule_id: rule.model_copy(update=changes)})
    typer.echo(f"{rule_id} is {'enabled' if enabled else 'disabled'}")


def _content(rule: AlarmRule) -> dict[str, Any]:
    return rule.model_dump(mode="json", exclude={"source", "created_at", "updated_at"})


def _read(
    file: Path | None, settings: Settings, *, is_foreign: bool = False
) -> tuple[list[AlarmRule], list[RefusedRule]]:
    from schemas.rules import parse_rules
    from streams.detect.rule_compiler import compile_rule, refusal

    path = file or settings.stream.rules_file
    if path is None:
        raise UserError("no rules file: name one, or set rules_file in [stream]")
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
        valid, refused = parse_rules(text, is_foreign=is_foreign)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error
    datapoints = settings.stream.options().datapoints
    good: list[AlarmRule] = []
    for rule in valid:
        try:
            compile_rule(rule, datapoints)
            good.append(rule)
        except ValueError as error:
            refused.append(refusal(rule.id, error))
    return good, refused


def _warn_of_metrics(valid: Sequence[AlarmRule], settings: Settings) -> None:
    from schemas.rules import unknown_metrics

    defined = [point.metric for point in settings.stream.options().datapoints.values()]
    for rule in unknown_metrics(valid, defined):
        typer.echo(f"warning: {rule}", err=True)


def _warn_of_inhibitors(valid: Sequence[AlarmRule], known: Container[str]) -> None:
    from schemas.rules import unknown_inhibitors

    for rule in unknown_inhibitors(valid, known):
        typer.echo(f"warning: {rule}", err=True)


def _leave(refused: Sequence[RefusedRule]) -> None:
    """Print what was refused; status 1 if anything was."""
    for rule in refused:
        typer.echo(f"refused: {rule}", err=True)
    if refused:
        raise typer.Exit(1)


def _listed(rule: AlarmRule) -> tuple[str | None, ...]:
    enabled = "yes" if rule.is_enabled else "no"
    return *_described(rule), rule.severity.value, enabled, rule.source, time_text(rule.updated_at)


def _described(rule: AlarmRule) -> tuple[str, str, str, str]:
    from streams.detect.rule_compiler import compile_rule

    compiled = compile_rule(rule)
    kind, name = compiled.scope
    lasting = f" for {compiled.duration / 1e6:g} s" if compiled.duration else ""
    if compiled.silence is not None:
        lasting = f" for {compiled.silence / 1e6:g} s"
    elif compiled.missed_intervals is not None:
        lasting = f" for {compiled.missed_intervals:g} intervals"
    return rule.id, rule.rule_type, f"{kind} {name}".strip(), f"{compiled.text}{lasting}"
