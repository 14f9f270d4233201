"""The configuration: one TOML file. Environment variables override every key; secrets may come from files.

Key `partitions` of section `[kafka]` is `FLEETLAKE_KAFKA__PARTITIONS` in the environment. A secret `client_secret` can
also be given as `client_secret_file` (or `FLEETLAKE_KARCHER__CLIENT_SECRET_FILE`), the path of a file that holds it.
Errors name the key and, for the file, the line.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from alarm_service.notify.settings import NotifySettings
from alarm_service.settings import AlarmsSettings
from fleetlake.config_problems import ENV_PREFIX, NESTED, explain
from fleetlake.config_text import toml_lines
from fleetlake.errors import UserError, reason
from fleetlake.secret_files import with_secret_files
from runtime.kafka import KafkaSettings
from runtime.log import LogOptions
from runtime.tracing import TracingSettings
from schemas.vendors import RegistrationError, vendor_names, vendors
from simulators.settings import SimulatorSettings, simulator_settings
from sinks.settings import DeltaSettings, DuckdbSettings
from sql_server.settings import SqlSettings
from streams.settings import StreamSettings
from ui.settings import UiSettings

DEFAULT_FILE = Path("fleetlake.toml")
_PERCENT_CODE = re.compile("%[0-9A-Fa-f]{2}")


def _known_vendor(name: str) -> str:
    if name not in vendor_names():
        *others, last = map(repr, vendor_names())
        raise PydanticCustomError("vendor", "has to be {names}", {"names": f"{', '.join(others)} or {last}"})
    return name


VendorName = Annotated[str, AfterValidator(_known_vendor)]


class PipelineSettings(BaseModel):
    """Section `[pipeline]`: settings of all stages."""

    model_config = ConfigDict(extra="forbid")

    data: Path = Field(
        default=Path("data"),
        description="Data folder: holds the embedded Kafka, the lake, fleet.duckdb, logs and state.",
    )
    vendors: list[VendorName] = Field(default_factory=list, description="Vendors to connect to.")

    @field_validator("data", mode="before")
    @classmethod
    def _names_a_folder(cls, data: Any) -> Any:
        """Refuse an empty path, which would be the current folder, and one that the lake's format misreads."""
        if isinstance(data, str | Path) and not str(data).strip():
            raise ValueError("is empty; name a folder")
        if isinstance(data, str | Path) and (code := _PERCENT_CODE.search(str(Path(data).absolute()))):
            raise ValueError(f"the path holds {code[0]}, which the lake would read as a character's code; rename it")
        return data

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe messages to log: debug, info, warning or error."
    )
    stream_workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Number of stream workers that `fleetlake up` runs. Each is a process that uses up to one core; "
        "workers beyond the number of [kafka] partitions are idle.",
    )
    buffer_megabytes: int = Field(
        default=256,
        ge=64,
        description="Megabytes of messages that one process may hold in memory; then it takes no more from its source. "
        "Connectors hold what Kafka has not taken, stream workers and sinks what they have read and not written.",
    )
    health_host: str = Field(
        default="127.0.0.1", description="Address on which stages serve /livez, /readyz and /metrics."
    )
    health_port: int = Field(
        default=-1,
        ge=-1,
        le=65535,
        description="Port of a stage's /livez, /readyz and /metrics. 0 picks a free port, -1 serves none. `fleetlake "
        "up` gives each of its stages a port of its own: this one and those behind it (docs/operations.md), or free "
        "ones if it is not positive.",
    )
    umask: str = Field(
        default="077",
        pattern="^0?[0-7]{3}$",
        description="Permissions that files and folders of the pipeline lack, octal: 077 lets only its own user read "
        "tables, logs and state; 027 also its group; 022 everybody.",
    )
    watchdog_seconds: float = Field(
        default=60,
        ge=0,
        description="Seconds after which a stage that makes no progress (its event loop stands still, or /livez fails) "
        "ends its process, so that it is restarted. 0: never.",
    )


class LogSettings(BaseModel):
    """Section `[log]`: the form of the log. How much is logged is `log_level` in [pipeline]."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["text", "json"] = Field(
        default="text",
        description="Form of a line: text, or json: an object with time, level, stage, code, logger and message.",
    )
    file_megabytes: float = Field(
        default=20,
        gt=0,
        description="Size at which a file in the folder `logs` is replaced by a new one, in megabytes.",
    )
    files: int = Field(default=5, ge=1, le=1000, description="How many older files of each log are kept.")


class BrokerSettings(BaseModel):
    """Section `[broker]`: the embedded Kafka broker, used while `bootstrap_servers` in [kafka] is empty."""

    model_config = ConfigDict(extra="forbid")

    port: int = Field(default=0, ge=0, le=65535, description="Port on 127.0.0.1; 0 picks a free port.")
    heap_megabytes: int = Field(default=384, ge=128, description="Java heap of the broker, in megabytes.")


class SinkSettings(BaseModel):
    """Section `[sink]`, with `[sink.delta]` and `[sink.duckdb]`."""

    model_config = ConfigDict(extra="forbid")

    delta: DeltaSettings = Field(default_factory=DeltaSettings)
    duckdb: DuckdbSettings = Field(default_factory=DuckdbSettings)


class Settings(BaseSettings):
    """The whole configuration, but for the sections of vendors: `settings_class` adds them."""

    model_config = SettingsConfigDict(extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter=NESTED)

    pipeline: PipelineSettings = Field(default_factory=PipelineSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    broker: BrokerSettings = Field(default_factory=BrokerSettings)
    stream: StreamSettings = Field(default_factory=StreamSettings)
    sink: SinkSettings = Field(default_factory=SinkSettings)
    alarms: AlarmsSettings = Field(default_factory=AlarmsSettings)
    notify: NotifySettings = Field(default_factory=NotifySettings)
    ui: UiSettings = Field(default_factory=UiSettings)
    sql: SqlSettings = Field(default_factory=SqlSettings)
    simulate: SimulatorSettings = Field(default_factory=SimulatorSettings)

    @property
    def log_options(self) -> LogOptions:
        """How a process logs."""
        size = int(self.log.file_megabytes * (1 << 20))
        return LogOptions(self.pipeline.log_level, self.log.format, size, self.log.files)

    def vendor(self, name: str) -> BaseModel:
        """The section of a registered vendor."""
        section: BaseModel = getattr(self, vendors()[name].name)
        return section

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment overrides the file, which comes as keyword arguments."""
        return (_Environment(settings_cls), init_settings)


@cache
def settings_class() -> type[Settings]:
    """The configuration with a section for each registered vendor. UserError where a registration is wrong."""
    try:
        sections: dict[str, Any] = {name: spec.load("settings") for name, spec in vendors().items()}
        sections["simulate"] = simulator_settings()
    except RegistrationError as error:
        raise UserError(str(error)) from error
    fields = {name: (section, Field(default_factory=section)) for name, section in sections.items()}
    return create_model("Settings", __base__=Settings, __doc__=Settings.__doc__, **cast(dict[str, Any], fields))


class _Environment(EnvSettingsSource):
    """The environment, with secrets from files where `…_FILE` names one."""

    def decode_complex_value(self, field_name: str, field: FieldInfo | None, value: Any) -> Any:
        """A list or table: JSON, or for a list also words separated by commas. Other text is left to validation."""
        try:
            return super().decode_complex_value(field_name, cast(FieldInfo, field), value)
        except ValueError:
            if field is not None and get_origin(field.annotation) is list:
                return [word.strip() for word in str(value).split(",")]
            return value

    def __call__(self) -> dict[str, Any]:
        return with_secret_files(super().__call__(), settings_class())


def load_settings(path: Path | None, **overrides: dict[str, Any]) -> Settings:
    """The configuration of `path` (default `fleetlake.toml`, if there), the environment, and `overrides` by section.

    UserError names each wrong key, with the line of the file or the environment variable it came from.
    """
    text, name = _read(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{name}: not valid TOML: {error}") from error
    try:
        whole = settings_class()
        return _override(whole(**with_secret_files(data, whole)), overrides)
    except ValidationError as error:
        raise UserError("\n".join(explain(error, name, text))) from error


def _read(path: Path | None) -> tuple[str, str]:
    chosen = path or (Path(os.environ["FLEETLAKE_CONFIG"]) if os.environ.get("FLEETLAKE_CONFIG") else None)
    if chosen is None and not DEFAULT_FILE.exists():
        return "", str(DEFAULT_FILE)
    chosen = chosen or DEFAULT_FILE
    try:
        return chosen.read_text(encoding="utf-8-sig"), str(chosen)
    except FileNotFoundError as error:
        raise UserError(
            f"configuration file {chosen} not found; `fleetlake config --example` prints one to start from"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read configuration file {chosen}: {reason(error)}") from error


def _override(settings: Settings, overrides: dict[str, dict[str, Any]]) -> Settings:
    """Apply the command line's values, which override file and environment."""
    sections: dict[str, BaseModel] = {}
    for name, values in overrides.items():
        section: BaseModel = getattr(settings, name)
        sections[name] = type(section).model_validate(
            {**{f: getattr(section, f) for f in section.model_fields_set}, **values}
        )
    return settings.model_copy(update=sections)


def effective_toml(settings: Settings, *, masked: bool = True) -> str:
    """The configuration in force as TOML; secrets as `********` unless `masked` is false."""
    return "\n".join(toml_lines(settings, order=_shown_order(), masked=masked, describe=False))


def example_toml(*, simulators: bool = False) -> str:
    """A configuration file with every key at its default, each with a comment that explains it.

    A key whose default is nothing shows an example. `simulators`: with the tables of the simulated clouds.
    """
    head = [
        "# fleetlake configuration. Every key is shown with its default; remove the # in front of a key to change it.",
        "# The environment variable of key `partitions` in [kafka] is FLEETLAKE_KAFKA__PARTITIONS.",
        "# Where that is nothing, an example stands in its place, and says so.",
        '# A secret may also be read from a file: client_secret_file = "/run/secrets/karcher".',
    ]
    order = [name for name in _shown_order() if simulators or name != "simulate"]
    return "\n".join([*head, *toml_lines(_defaults(), order=order, masked=False, describe=True)])


def _defaults() -> Settings:
    whole = settings_class()
    values = {name: field.get_default(call_default_factory=True) for name, field in whole.model_fields.items()}
    return whole.model_construct(None, **values)


def _shown_order() -> list[str]:
    """The sections in the order they are shown; vendors stand before the stages that use their data."""
    first = ("pipeline", "log", "tracing", "kafka", "broker")
    return sorted(
        settings_class().model_fields, key=lambda name: (name in vendors()) + 2 * (name not in (*first, *vendors()))
    )


def require_vendors(names: Iterable[str]) -> None:
    """UserError where a name is no registered vendor's."""
    unknown = [name for name in names if name not in vendor_names()]
    if unknown:
        raise UserError(f"unknown vendor {unknown[0]!r}; known are {', '.join(vendor_names())}")


def chosen_vendors(settings: Settings, names: list[str]) -> list[str]:
    """The vendors named on the command line, else those of `[pipeline] vendors`; UserError where there are none."""
    require_vendors(names)
    chosen = list(names) or list(settings.pipeline.vendors)
    if not chosen:
        raise UserError("no vendor to connect to: name one on the command line, or set vendors in [pipeline]")
    return chosen
