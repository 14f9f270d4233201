"""Section `[ogmen]` of the configuration."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from connectors.ogmen.channel import Sampling
from connectors.ogmen.signature import Signature


class OgmenSettings(BaseModel):
    """Ogmen Robotics. The document names hardly a host or a path: all of them are assumed and can be set."""

    model_config = ConfigDict(extra="forbid")

    devices: list[str] = Field(default_factory=list, description="Ids of the robots to listen to.")
    accounts: list[str] = Field(
        default_factory=list, description="Ids of accounts whose robots are listened to as well, found by REST."
    )
    dogs: dict[str, str] = Field(
        default_factory=dict, description="Dog id → id of the robot that watches it; insights name the dog only."
    )
    socket_url: str = Field(
        default="", description="Device WebSocket, with {device_id}, e.g. wss://HOST/ws/{device_id}. Empty: none."
    )
    api_url: str = Field(default="", description="Base URL of the REST API; empty: REST is not read.")
    token: SecretStr | None = Field(
        default=None, description="Bearer token for WebSocket and REST, where the account has one (none is documented)."
    )

    odometry_hz: float = Field(
        default=2, ge=0, description="Odometry kept per robot and second, by its own time; 0 keeps all."
    )
    deadband_metres: float = Field(
        default=0.01, ge=0, description="Odometry is kept when the robot moved so far; 0: distance does not matter."
    )
    deadband_degrees: float = Field(
        default=1, ge=0, description="Odometry is kept when the robot turned so far; 0: the angle does not matter."
    )
    still_seconds: float = Field(default=10, gt=0, description="A robot that stands still is kept at least so often.")

    battery_path: str = Field(default="/battery_status/{device_id}", description="Assumed, like all paths; empty: no.")
    privacy_path: str = Field(
        default="/privacy_mode/{device_id}",
        description="Assumed. Until it can be read, position and insights are left out; empty: nobody is asked.",
    )
    connectivity_path: str = Field(default="/connectivity_logs/{device_id}", description="Assumed.")
    location_path: str = Field(default="/location_logs/{device_id}", description="Assumed.")
    system_usage_path: str = Field(default="/system_usage_logs/{device_id}", description="Assumed.")
    activity_path: str = Field(default="/device_activity/{device_id}", description="Assumed.")
    insight_path: str = Field(default="/dog_insights/{dog_id}", description="Assumed; read for `dogs`.")
    device_path: str = Field(default="/devices/{device_id}", description="Assumed.")
    storage_path: str = Field(default="/storage/{device_id}", description="Assumed.")
    network_path: str = Field(default="/network/{device_id}", description="Assumed.")
    treat_bin_path: str = Field(default="/treat_bin/{device_id}", description="Assumed.")
    camera_head_path: str = Field(default="/cam_head/{device_id}", description="Assumed.")
    device_settings_path: str = Field(default="/device_settings/{device_id}", description="Assumed.")
    volume_path: str = Field(default="", description="E.g. /volume/{device_id}; the device settings tell it, too.")
    display_brightness_path: str = Field(default="", description="The device settings tell it, too.")
    status_light_brightness_path: str = Field(default="", description="The device settings tell it, too.")
    account_devices_path: str = Field(default="/accounts/{account_id}/devices", description="Assumed.")

    state_seconds: float = Field(default=30, gt=0, description="Time between two readings of privacy mode and battery.")
    log_seconds: float = Field(default=300, gt=0, description="Time between two readings of the logs.")
    slow_seconds: float = Field(
        default=900, gt=0, description="Time between two readings of what changes slowly: device, storage, settings…"
    )
    account_seconds: float = Field(default=600, gt=0, description="Time between two readings of an account's robots.")
    log_entries: int = Field(default=50, ge=1, description="Entries asked for with each reading of a log.")
    most_log_entries: int = Field(
        default=2000, ge=1, description="Entries asked for at most, where the usual ones do not reach back far enough."
    )
    concurrent_requests: int = Field(default=8, ge=1, description="REST requests at the same time.")
    concurrent_handshakes: int = Field(default=20, ge=1, description="WebSockets that are opened at the same time.")
    handshakes_per_second: float = Field(
        default=50, gt=0, description="WebSockets opened in a second, so that a fleet that fell does not storm back."
    )
    max_frame_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=1024,
        description="Longest message taken from a socket. What is longer than Kafka takes (8 MiB) is a dead letter.",
    )
    messages_per_second: float = Field(
        default=200, gt=0, description="Messages taken from one robot in a second; a flood is left out and counted."
    )
    request_timeout_seconds: float = Field(default=20, gt=0)

    webhook_host: str = Field(default="127.0.0.1", description="Address the alert webhook listens on.")
    webhook_port: int = Field(default=8481, ge=-1, le=65535, description="0 picks a free port, -1: no webhook.")
    webhook_path: str = Field(default="/alerts/{device_id}", description="Path robots post alerts to; assumed.")
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="What robots must send in `webhook_header`. Without it and a signature every alert is refused.",
    )
    webhook_header: str = Field(default="X-Webhook-Secret", description="Header of the shared secret; assumed.")
    signature_secret: SecretStr | None = Field(
        default=None, description="Key of the alerts' signature (HMAC of the body). Demanded beside the shared secret."
    )
    signature_header: str = Field(default="X-Signature", description="Header of the signature; assumed.")
    signature_algorithm: Literal["sha256", "sha384", "sha512", "sha1"] = "sha256"
    signature_prefix: str = Field(default="sha256=", description="What stands before the signature; may be empty.")
    signature_encoding: Literal["hex", "base64"] = "hex"
    signature_timestamp_header: str = Field(
        default="",
        description="Header of the sending time (epoch seconds or milliseconds); then time, dot and body are signed.",
    )
    signature_tolerance_seconds: float = Field(default=300, gt=0, description="How old a signed alert may be.")
    max_alert_bytes: int = Field(default=64 * 1024, ge=1024, description="Longer alerts are answered with 413.")
    alerts_per_minute: int = Field(default=60, ge=1, description="Alerts taken of one robot in a minute, else 429.")
    ack_timeout_seconds: float = Field(
        default=10, gt=0, description="Longest wait for Kafka before the robot is told to come again (503)."
    )

    @model_validator(mode="after")
    def _templates_have_their_ids(self) -> Self:
        wanted = {"socket_url": "device_id", "insight_path": "dog_id", "account_devices_path": "account_id"}
        for name in type(self).model_fields:
            if name.endswith("_path") or name in wanted:
                template, field = getattr(self, name), wanted.get(name, "device_id")
                if template and f"{{{field}}}" not in template:
                    raise ValueError(f"{name} must hold {{{field}}}")
        return self

    @property
    def sampling(self) -> Sampling:
        """How odometry is sampled."""
        return Sampling(self.odometry_hz, self.deadband_metres, self.deadband_degrees, self.still_seconds)

    @property
    def signature(self) -> Signature | None:
        """How alerts must be signed; None where they need not."""
        if self.signature_secret is None:
            return None
        return Signature(
            self.signature_secret.get_secret_value().encode(),
            self.signature_header,
            self.signature_algorithm,
            self.signature_prefix,
            self.signature_encoding,
            self.signature_timestamp_header,
            self.signature_tolerance_seconds,
        )
