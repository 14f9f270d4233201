"""Section `[wayscloud]` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator


class DeviceCredentials(BaseModel):
    """MQTT credentials of one device, as `POST /v1/iot/devices` hands them out at registration."""

    model_config = ConfigDict(extra="forbid")

    device_id: str = Field(min_length=1, description="The device. Its id replaces the first + of the topic filters.")
    username: str = Field(min_length=1)
    password: SecretStr = SecretStr("")
    client_id: str = Field(
        default="",
        description="MQTT client id where the broker demands a certain one; by default "
        "`<client_id>-<device_id>`. It must not be the one that the device itself uses.",
    )


class WayscloudSettings(BaseModel):
    """WAYSCloud IoT: telemetry by MQTT, everything else by REST."""

    model_config = ConfigDict(extra="forbid")

    mqtt_host: str = Field(
        default="",
        description="Host of the MQTT broker. Empty: GET /v1/iot/credentials names it, which needs api_key.",
    )
    mqtt_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port of the MQTT broker. 0: 8883 with TLS, 1883 without TLS, 8083 for WebSocket.",
    )
    mqtt_tls: bool = Field(default=True, description="Encrypt the connection to the broker.")
    mqtt_ca_file: Path | None = Field(default=None, description="CA bundle for TLS. Default: the system's.")
    mqtt_certificate_file: Path | None = Field(
        default=None, description="Client certificate in PEM, for brokers that ask for one."
    )
    mqtt_key_file: Path | None = Field(
        default=None, description="Key of the client certificate. Default: it is in the certificate's file."
    )
    mqtt_transport: Literal["tcp", "websockets"] = Field(default="tcp", description="MQTT over TCP or over WebSocket.")
    websocket_path: str = Field(default="/mqtt", description="Path of MQTT over WebSocket. The default is assumed.")
    mqtt_username: str = Field(default="", description="User name that is shared by all devices.")
    mqtt_password: SecretStr = SecretStr("")
    device_credentials: list[DeviceCredentials] = Field(
        default_factory=list,
        description="Credentials of single devices. Each gets a connection of its own, beside the shared one if "
        "mqtt_username is set.",
    )
    mqtt_version: Literal["auto", "5", "3.1.1"] = Field(
        default="auto", description="MQTT version. auto: MQTT 5, or 3.1.1 where the broker does not support it."
    )
    client_id: str = Field(
        default="fleetlake",
        min_length=1,
        description="MQTT client id. The broker keeps the session, with the messages that were missed, under this id.",
    )
    share_group: str = Field(
        default="",
        pattern=r"^[^/+#]*$",
        description="Group of a shared subscription ($share). Connectors of one group divide the messages. Each "
        "uses the client id `<client_id>-<number>`. Connectors on different data folders need "
        "different client_id.",
    )
    topics: list[str] = Field(
        default=["devices/+/sensors/#"],
        min_length=1,
        description="Topic filters. The first + stands for the device id. The default follows an example of "
        "WAYSCloud's API document.",
    )
    session_expiry_hours: float = Field(
        default=168,
        ge=0,
        le=1_000_000,
        description="How long the broker keeps the session while the connector is away (MQTT 5). 0: not at all.",
    )
    max_in_flight: int = Field(
        default=1000,
        ge=1,
        le=65535,
        description="Messages that the broker may send before Kafka has acknowledged earlier ones (MQTT 5).",
    )
    max_packet_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=1024,
        description="Bytes of the longest packet that the broker may send; it discards longer ones (MQTT 5). A message "
        "longer than Kafka takes (8 MiB) becomes a dead letter.",
    )
    keepalive_seconds: int = Field(default=30, ge=5, le=3600)
    connect_timeout_seconds: float = Field(default=10, gt=0)
    reconnect_seconds: float = Field(
        default=0.5,
        gt=0,
        description="Wait before the second attempt to connect. It doubles with each attempt, with jitter.",
    )
    reconnect_cap_seconds: float = Field(default=30, gt=0, description="Longest wait between two attempts to connect.")
    drain_seconds: float = Field(
        default=5, ge=0, description="How long a stop waits for Kafka to acknowledge what the broker has sent."
    )
    alive_seconds: float = Field(
        default=5,
        gt=0,
        description="How often the state is written that says up to when telemetry is complete. After a crash, "
        "telemetry since then is back-filled.",
    )
    silent_seconds: float = Field(
        default=600, ge=0, description="Connect again when no message arrived for this long. 0: never."
    )

    api_url: str = Field(default="https://api.wayscloud.services", description="Base URL of the REST API.")
    api_key: SecretStr | None = Field(default=None, description="X-API-Key. Without it, the REST API is not used.")
    requests_per_second: int = Field(
        default=5,
        ge=1,
        description="REST requests per second, of all processes on this data folder. No limit is documented.",
    )
    page_size: int = Field(default=100, ge=1, description="Items per page of a list. The parameter's name is assumed.")
    registry_seconds: float = Field(
        default=300, gt=0, description="How often devices, groups, profiles and datapoints are listed."
    )
    device_seconds: float = Field(
        default=900, gt=0, description="How often each device is read in full, with its health."
    )
    import_rules: bool = Field(
        default=True,
        description="Import the account's alarm rules: they are evaluated here, for WAYSCloud's devices. When switched "
        "off, the rules that were imported are deleted here.",
    )
    import_alarms: bool = Field(
        default=True,
        description="Import the account's alarms. An alarm of a rule that is evaluated here becomes an event only.",
    )
    alarm_seconds: float = Field(default=30, gt=0, description="How often the open alarms are read.")
    alarm_history_seconds: float = Field(
        default=900, gt=0, description="How often all alarms are read, also those that were resolved in between."
    )
    rule_seconds: float = Field(default=300, gt=0, description="How often the alarm rules are read.")
    request_timeout_seconds: float = Field(default=20, gt=0)

    backfill: Literal["lost_session", "every_outage", "never"] = Field(
        default="lost_session",
        description="When telemetry is back-filled by REST: when the broker lost the session; after every "
        "outage, for devices that publish at QoS 0; never.",
    )
    backfill_hours: float = Field(default=168, gt=0, description="Longest time that is back-filled.")
    backfill_overlap_seconds: float = Field(
        default=60,
        ge=0,
        description="How much more is read on either side of an outage. Readings that arrived already are dropped.",
    )
    backfill_step_minutes: float = Field(
        default=60, gt=0, description="Time range of one request for a device's telemetry."
    )
    backfill_delay_seconds: float = Field(
        default=15,
        ge=0,
        description="How long after the end of the time range the request is made, so that the cloud has stored "
        "what was sent.",
    )
    backfill_reach_seconds: float = Field(
        default=5,
        ge=0.1,
        le=600,
        description="Greatest difference between the cloud's time of a reading and its receipt by MQTT, for "
        "readings that carry no time (assumed).",
    )
    start_parameter: str = Field(
        default="start", description="Parameter of GET telemetry that holds the start of the time range (assumed)."
    )
    end_parameter: str = Field(
        default="end", description="Parameter of GET telemetry that holds the end of the time range (assumed)."
    )

    groups: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Devices of each group, by its id or name. The API does not show who is in a group.",
    )
    profiles: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Devices of each profile, by its id or name. The API does not show which devices have a profile.",
    )

    @field_validator("topics")
    @classmethod
    def _filters_name_devices(cls, filters: list[str]) -> list[str]:
        for one in filters:
            levels = one.split("/")
            if levels[0] == "$share":
                levels = levels[2:]
            if "+" not in levels:
                raise ValueError(
                    f"{one!r} has no level +, which stands for the device id; for example devices/+/sensors/#"
                )
            if "#" in levels[:-1] or any(len(level) > 1 and set("+#") & set(level) for level in levels):
                raise ValueError(f"{one!r} is no MQTT topic filter: + and # are whole levels, and # is the last")
        return filters

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
