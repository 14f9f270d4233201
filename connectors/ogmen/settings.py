"""Section `[ogmen]` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from connectors.ogmen.channel import Sampling
from connectors.ogmen.signature import Signature


class OgmenSettings(BaseModel):
    """Ogmen Robotics. Ogmen's API document names hardly a host or a path: all of them are assumed and can be set.
    An empty path means that the endpoint is not read.
    """

    model_config = ConfigDict(extra="forbid")

    devices: list[str] = Field(default_factory=list, description="Ids of the robots to read.")
    accounts: list[str] = Field(
        default_factory=list,
        description="Ids of the accounts whose robots are read as well. The REST API lists the robots of an account.",
    )
    dogs: dict[str, str] = Field(
        default_factory=dict,
        description="Dog id → id of the robot that watches the dog. Needed because insights name the dog only.",
    )
    socket_url: str = Field(
        default="",
        description="URL of a robot's WebSocket, with {device_id}, e.g. wss://HOST/ws/{device_id}. Empty: none.",
    )
    api_url: str = Field(default="", description="Base URL of the REST API. Empty: REST is not read.")
    token: SecretStr | None = Field(
        default=None,
        description="Bearer token for WebSocket and REST, where the account has one. The document mentions none.",
    )

    odometry_hz: float = Field(
        default=2,
        ge=0,
        description="Odometry messages per second that are kept of a robot, by the robot's own time. 0 keeps all.",
    )
    deadband_metres: float = Field(
        default=0.01,
        ge=0,
        description="Metres that a robot must move before its odometry is kept again. 0: distance does not matter.",
    )
    deadband_degrees: float = Field(
        default=1,
        ge=0,
        description="Degrees that a robot must turn before its odometry is kept again. 0: the angle does not matter.",
    )
    still_seconds: float = Field(
        default=10, gt=0, description="Seconds after which one odometry message of a standing robot is kept anyway."
    )

    battery_path: str = Field(default="/battery_status/{device_id}", description="Path of the battery status. Assumed.")
    privacy_path: str = Field(
        default="/privacy_mode/{device_id}",
        description="Path of the privacy mode. Assumed. Position and insights are left out until it was read once. "
        "Empty: the privacy mode counts as off.",
    )
    connectivity_path: str = Field(
        default="/connectivity_logs/{device_id}", description="Path of the connectivity log. Assumed."
    )
    location_path: str = Field(default="/location_logs/{device_id}", description="Path of the location log. Assumed.")
    system_usage_path: str = Field(
        default="/system_usage_logs/{device_id}", description="Path of the system usage log. Assumed."
    )
    activity_path: str = Field(default="/device_activity/{device_id}", description="Path of the activity log. Assumed.")
    insight_path: str = Field(
        default="/dog_insights/{dog_id}", description="Path of a dog's insights, read for each of `dogs`. Assumed."
    )
    device_path: str = Field(default="/devices/{device_id}", description="Path of a robot's description. Assumed.")
    storage_path: str = Field(default="/storage/{device_id}", description="Path of the storage status. Assumed.")
    network_path: str = Field(default="/network/{device_id}", description="Path of the network status. Assumed.")
    treat_bin_path: str = Field(default="/treat_bin/{device_id}", description="Path of the treat bin status. Assumed.")
    camera_head_path: str = Field(
        default="/cam_head/{device_id}", description="Path of the camera head status. Assumed."
    )
    device_settings_path: str = Field(
        default="/device_settings/{device_id}", description="Path of the device settings. Assumed."
    )
    volume_path: str = Field(
        default="",
        description="Path of the volume, e.g. /volume/{device_id}. Not needed: the device settings contain it.",
    )
    display_brightness_path: str = Field(
        default="", description="Path of the display brightness. Not needed: the device settings contain it."
    )
    status_light_brightness_path: str = Field(
        default="", description="Path of the status light brightness. Not needed: the device settings contain it."
    )
    account_devices_path: str = Field(
        default="/accounts/{account_id}/devices", description="Path of the list of an account's robots. Assumed."
    )

    state_seconds: float = Field(
        default=30, gt=0, description="Seconds between two readings of privacy mode and battery."
    )
    log_seconds: float = Field(default=300, gt=0, description="Seconds between two readings of the logs.")
    slow_seconds: float = Field(
        default=900,
        gt=0,
        description="Seconds between two readings of slowly changing states: description, storage, network, settings.",
    )
    account_seconds: float = Field(
        default=600, gt=0, description="Seconds between two readings of the robots of the accounts."
    )
    log_entries: int = Field(default=50, ge=1, description="Entries that each reading of a log asks for.")
    most_log_entries: int = Field(
        default=2000,
        ge=1,
        description="Entries that a reading asks for at most, where fewer do not reach back to the last one read.",
    )
    concurrent_requests: int = Field(default=8, ge=1, description="Robots that are read by REST at the same time.")
    concurrent_handshakes: int = Field(
        default=20, ge=1, description="WebSockets that are opened at the same time, at a start or after an outage."
    )
    handshakes_per_second: float = Field(
        default=50,
        gt=0,
        description="WebSockets that are opened per second, so that a fleet does not come back all at once.",
    )
    max_frame_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=1024,
        description="Bytes of the longest message taken from a WebSocket; a longer one ends the connection. A message "
        "longer than Kafka takes (8 MiB) becomes a dead letter.",
    )
    messages_per_second: float = Field(
        default=200,
        gt=0,
        description="Messages per second that are taken from one robot, after a burst of ten seconds' worth. "
        "The rest is left out and counted.",
    )
    request_timeout_seconds: float = Field(
        default=20, gt=0, description="Seconds after which a REST request counts as failed."
    )

    webhook_host: str = Field(default="127.0.0.1", description="Address on which the alert webhook listens.")
    webhook_port: int = Field(
        default=8481, ge=-1, le=65535, description="Port of the alert webhook. 0 picks a free port, -1 turns it off."
    )
    webhook_certificate_file: Path | None = Field(
        default=None,
        description="Certificate in PEM: the webhook serves HTTPS. It is read again when it changes. Default: HTTP, "
        "for a TLS proxy in front.",
    )
    webhook_key_file: Path | None = Field(
        default=None, description="Key of the certificate. Default: it is in the certificate's file."
    )
    webhook_path: str = Field(
        default="/alerts/{device_id}", description="Path to which robots post their alerts. Assumed."
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="Shared secret that robots send in the header `webhook_header`. Without it and without "
        "`signature_secret`, every alert is refused.",
    )
    webhook_header: str = Field(default="X-Webhook-Secret", description="Header of the shared secret. Assumed.")
    signature_secret: SecretStr | None = Field(
        default=None,
        description="Key of the alerts' signature, an HMAC of the body. If both secrets are set, both must be right.",
    )
    signature_header: str = Field(default="X-Signature", description="Header of the signature. Assumed.")
    signature_algorithm: Literal["sha256", "sha384", "sha512", "sha1"] = Field(
        default="sha256", description="Hash function of the signature."
    )
    signature_prefix: str = Field(
        default="sha256=", description="Text before the signature in its header; may be empty."
    )
    signature_encoding: Literal["hex", "base64"] = Field(default="hex", description="Encoding of the signature.")
    signature_timestamp_header: str = Field(
        default="",
        description="Header of the sending time (epoch seconds or milliseconds). If set, the signature covers the "
        "time, a dot and the body. Empty: it covers the body.",
    )
    signature_tolerance_seconds: float = Field(
        default=300, gt=0, description="Seconds that the sending time of an alert may differ from ours."
    )
    max_alert_bytes: int = Field(
        default=64 * 1024, ge=1024, description="Bytes of the longest alert. A longer one is answered with 413."
    )
    alerts_per_minute: int = Field(
        default=60, ge=1, description="Alerts per minute that are taken from one robot. More are answered with 429."
    )
    ack_timeout_seconds: float = Field(
        default=10,
        gt=0,
        description="Seconds that an alert waits for Kafka before it is answered with 503; the robot sends it again.",
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
        """How alerts must be signed; None where they need not be."""
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
