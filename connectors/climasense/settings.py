"""Section `[climasense]` of the configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import ConfigDict, Field, SecretStr

from runtime.http_limits import ServerLimits
from schemas.climasense import PAIR, RESULT, STATUS


class ClimasenseSettings(ServerLimits):
    """The server that ClimaSense devices call."""

    model_config = ConfigDict(extra="forbid")

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. Use 0.0.0.0 only with certificate_file, or behind a TLS proxy.",
    )
    port: int = Field(default=8480, ge=0, le=65535, description="Port to listen on. 0 picks a free one.")
    database_url: SecretStr | None = Field(
        default=None,
        description="Database of keys, settings, commands and firmware, e.g. "
        "postgresql+psycopg://user:password@host/db. Default: SQLite in the data folder.",
    )
    keys_file: Path | None = Field(
        default=None,
        description="JSON or TOML file of devices to provision. It maps a device id to the SHA-256 of its API "
        "key in hexadecimal, or to an object of sha256, role (device, hub, sensor), batch, "
        "serial_number. The file is read again when it changes. `fleetlake keys` provisions single "
        "devices.",
    )
    keys_seconds: float = Field(
        default=1.0,
        gt=0,
        description="How often new and revoked keys are read. A revocation takes effect within this time.",
    )
    requests_per_minute: int = Field(default=60, ge=1, description="Documented limit of POST /v1/telemetry per key.")
    settings_per_minute: int = Field(default=10, ge=1, description="Documented limit of GET /v1/settings per key.")
    updates_per_minute: int = Field(default=10, ge=1, description="Assumed limit of PATCH /v1/settings per key.")
    commands_per_minute: int = Field(
        default=30, ge=1, description="Documented limit of GET /v1/commands/pending per key."
    )
    results_per_minute: int = Field(default=60, ge=1, description="Assumed limit of command results per key.")
    checks_per_minute: int = Field(default=10, ge=1, description="Documented limit of GET /v1/ota/check per key.")
    downloads_per_hour: int = Field(default=5, ge=1, description="Documented limit of GET /v1/ota/download/* per key.")
    reports_per_minute: int = Field(default=60, ge=1, description="Assumed limit of OTA reports per key.")
    pairings_per_minute: int = Field(default=300, ge=1, description="Assumed limit of sensor registrations per hub.")
    command_result_path: str = Field(default="/v1/commands/result", pattern="^/", description="Assumed path.")
    ota_status_path: str = Field(default="/v1/ota/status", pattern="^/", description="Assumed path.")
    pairing_path: str = Field(default="/v1/zigbee/sensors", pattern="^/", description="Assumed path.")
    max_body_bytes: int = Field(
        default=256 * 1024, ge=1024, description="Longest body in bytes; longer ones are answered with 413."
    )
    ack_timeout_seconds: float = Field(
        default=10, gt=0, description="How long a request waits for Kafka before it is answered with 503."
    )

    @property
    def paths(self) -> dict[str, str]:
        """The paths that are assumed, by endpoint."""
        return {RESULT: self.command_result_path, STATUS: self.ota_status_path, PAIR: self.pairing_path}
