"""Section `[wayscloud]` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator


class DeviceCredentials(BaseModel):
    """MQTT credentials of one device, as `POST /v1/iot/devices` hands them out at registration."""

    model_config = ConfigDict(extra="forbid")

    device_id: str = Field(
        min_length=1, description="The device; in our topic filters it takes the place of the first +."
    )
    username: str = Field(min_length=1)
    password: SecretStr = SecretStr("")
    client_id: str = Field(
        default="", description="Where the broker demands one; else ours and the device's. Never the device's own."
    )


class WayscloudSettings(BaseModel):
    """WAYSCloud IoT: telemetry by MQTT, everything else by REST (wayscloud.txt)."""

    model_config = ConfigDict(extra="forbid")

    mqtt_host: str = Field(
        default="", description="Host of the MQTT broker; empty: asked from GET /v1/iot/credentials (needs api_key)."
    )
    mqtt_port: int = Field(
        default=0, ge=0, le=65535, description="0: 8883 with TLS, 1883 without, 8083 by WebSocket (documented)."
    )
    mqtt_tls: bool = Field(default=True, description="Encrypt the connection to the broker.")
    mqtt_ca_file: Path | None = Field(default=None, description="CA bundle for TLS; the system's when empty.")
    mqtt_transport: Literal["tcp", "websockets"] = Field(default="tcp", description="MQTT itself, or over WebSocket.")
    websocket_path: str = Field(default="/mqtt", description="Path of MQTT over WebSocket (assumed; the usual one).")
    mqtt_username: str = Field(default="", description="Credentials shared by all devices.")
    mqtt_password: SecretStr = SecretStr("")
    device_credentials: list[DeviceCredentials] = Field(
        default_factory=list,
        description="Credentials of single devices: one connection each, beside the shared one if it has a user name.",
    )
    mqtt_version: Literal["auto", "5", "3.1.1"] = Field(
        default="auto", description="auto: MQTT 5, and 3.1.1 with a broker that does not speak it."
    )
    client_id: str = Field(
        default="fleetlake",
        min_length=1,
        description="Fixed MQTT client id: the broker keeps our session, and what we missed, under it.",
    )
    share_group: str = Field(
        default="",
        pattern=r"^[^/+#]*$",
        description="Shared subscription ($share): connectors of one group split the load. Each takes a client id of "
        "its own, `<client_id>-<number>`; on different state folders set client_id apart as well.",
    )
    topics: list[str] = Field(
        default=["devices/+/sensors/#"],
        min_length=1,
        description="Topic filters; the first + stands for the device id. Default from the document's profile example.",
    )
    session_expiry_hours: float = Field(
        default=168,
        ge=0,
        le=1_000_000,
        description="How long the broker keeps our session while we are away (MQTT 5); 0: not at all.",
    )
    max_in_flight: int = Field(
        default=1000, ge=1, le=65535, description="Messages the broker may send before Kafka has acknowledged (MQTT 5)."
    )
    keepalive_seconds: int = Field(default=30, ge=5, le=3600)
    connect_timeout_seconds: float = Field(default=10, gt=0)
    reconnect_seconds: float = Field(
        default=0.5, gt=0, description="Wait before the second attempt to connect; doubled with each, and jittered."
    )
    reconnect_cap_seconds: float = Field(default=30, gt=0, description="Longest wait between two attempts.")
    drain_seconds: float = Field(
        default=5, ge=0, description="On leaving, wait so long for Kafka to have what the broker has sent."
    )
    alive_seconds: float = Field(
        default=5, gt=0, description="How often it is noted down that all is well: what a crash makes us read again."
    )
    silent_seconds: float = Field(
        default=600, ge=0, description="A connection that brought no message for so long is made anew; 0: never."
    )

    api_url: str = Field(default="https://api.wayscloud.services", description="Base URL of the REST API (documented).")
    api_key: SecretStr | None = Field(default=None, description="X-API-Key; without one REST is not read.")
    requests_per_second: int = Field(
        default=5, ge=1, description="REST requests of all processes on this state folder (no limit is documented)."
    )
    page_size: int = Field(default=100, ge=1, description="Items asked for with each page; the name is assumed.")
    registry_seconds: float = Field(
        default=300, gt=0, description="Time between two readings of devices, groups, profiles and datapoints."
    )
    device_seconds: float = Field(
        default=900, gt=0, description="Time between two readings of each device in full, and of its health."
    )
    alarm_seconds: float = Field(default=30, gt=0, description="Time between two readings of the open alarms.")
    alarm_history_seconds: float = Field(
        default=900, gt=0, description="Time between two readings of all alarms: what came and went in between."
    )
    rule_seconds: float = Field(default=300, gt=0, description="Time between two readings of the alarm rules.")
    request_timeout_seconds: float = Field(default=20, gt=0)

    backfill: Literal["lost_session", "every_outage", "never"] = Field(
        default="lost_session",
        description="When telemetry is read by REST: when the broker lost our session; after every outage (for devices "
        "that publish at QoS 0); never.",
    )
    backfill_hours: float = Field(default=168, gt=0, description="Longest time read back.")
    backfill_overlap_seconds: float = Field(
        default=60, ge=0, description="Read so much more on either side of an outage; what is known already is dropped."
    )
    backfill_step_minutes: float = Field(default=60, gt=0, description="Time asked for with one request of a device.")
    backfill_delay_seconds: float = Field(
        default=15,
        ge=0,
        description="Wait so long beyond the time to be read, until the cloud has stored what was sent.",
    )
    backfill_reach_seconds: float = Field(
        default=5,
        ge=0.1,
        le=600,
        description="A reading without a time of its own is stored by the cloud within so many seconds of when we get "
        "it live (assumed): what the clocks differ by, and the way.",
    )
    start_parameter: str = Field(
        default="start", description="Name of the time range's start in GET telemetry (assumed)."
    )
    end_parameter: str = Field(default="end", description="Name of the time range's end (assumed).")

    groups: dict[str, list[str]] = Field(
        default_factory=dict, description="Devices of each group, by its id or name: membership cannot be read."
    )
    profiles: dict[str, list[str]] = Field(
        default_factory=dict, description="Devices of each profile, by its id or name: membership cannot be read."
    )

    @property
    def port(self) -> int:
        """The broker's port."""
        return self.mqtt_port or (8083 if self.mqtt_transport == "websockets" else 8883 if self.mqtt_tls else 1883)

    @model_validator(mode="after")
    def _client_ids_differ(self) -> Self:
        names = [each.client_id or each.device_id for each in self.device_credentials]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"device_credentials: {twice} is there twice")
        return self
