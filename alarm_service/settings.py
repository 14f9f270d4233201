"""Section `[alarms]` of the configuration."""

from __future__ import annotations

from pydantic import ConfigDict, Field, SecretStr

from runtime.http_limits import ServerLimits


class AlarmsSettings(ServerLimits):
    """The alarm service: alarms and rules over HTTP."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(default=False, description="Whether `fleetlake up` runs the alarm service.")
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. If it is not a loopback address, set certificate_file or put a TLS proxy in "
        "front.",
    )
    port: int = Field(default=8093, ge=0, le=65535, description="Port of the HTTP API; 0 picks a free port.")
    database_url: SecretStr | None = Field(
        default=None,
        description="URL of the database, as SQLAlchemy takes it. Default: SQLite in the data folder.",
    )
    action_seconds: float = Field(
        default=5, gt=0, le=60, description="How long an answer waits for the alarm engine to carry out an action."
    )
    keep_days: float = Field(
        default=365, ge=31, description="How long the service keeps resolved alarms (the lake keeps their events)."
    )
    max_body_bytes: int = Field(default=65_536, ge=1024, description="Largest request body; larger ones are refused.")
