"""Settings of the simulators. Defaults make a demo: 44 devices of four vendors, about 200 messages per second."""

from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, SecretStr, create_model, model_validator

from schemas.vendors import vendors
from simulators.faults import FaultSettings


class KarcherSimulator(BaseModel):
    """The Kärcher cloud: token endpoint, REST and socket on one port."""

    devices: int = Field(
        default=12,
        ge=1,
        description="Number of machines that report. The last one is no robot; a retired machine comes on top.",
    )
    rate: float = Field(default=4.0, gt=0, description="Messages per second that each robot sends on its socket.")
    port: int = Field(default=0, ge=0, le=65535, description="Port of the simulated cloud; 0 picks a free one.")
    client_id: str = "fleetlake-demo"
    client_secret: SecretStr = SecretStr("karcher-demo-secret")
    token_seconds: int = Field(default=3600, gt=0, description="Seconds for which an access token is valid.")
    token_limit: int = Field(default=10, gt=0, description="Most token requests of a client in ten minutes.")
    rest_limit: int = Field(default=5, gt=0, description="Most requests per second to one endpoint.")


class OgmenSimulator(BaseModel):
    """The Ogmen cloud: sockets and REST on one port; robots that post alerts to the webhook."""

    devices: int = Field(default=10, ge=1, description="Number of robots.")
    rate: float = Field(default=8.0, gt=0, description="Messages per second that each robot sends on its socket.")
    port: int = Field(default=0, ge=0, le=65535, description="Port of the simulated cloud; 0 picks a free one.")
    socket_path: str = Field(
        default="/ws/{device_id}", description="Path of the socket (assumed). It has to contain {device_id}."
    )
    token: SecretStr | None = Field(
        default=None, description="Bearer token that REST and sockets ask for. None is documented."
    )
    map_seconds: float = Field(default=30.0, gt=0, description="Seconds between two maps of a robot.")
    map_cells: int = Field(default=120, ge=4, le=2000, description="Width and height of a map, in cells.")
    cross_battery: bool = Field(
        default=False,
        description="Whether batteries cross thresholds, too. They are read by REST only, so poll every few seconds.",
    )
    webhook_url: str | None = Field(default=None, description="URL of fleetlake's webhook, with {device_id}.")
    webhook_secret: SecretStr = SecretStr("ogmen-demo-secret")
    alert_seconds: float = Field(
        default=30.0, gt=0, description="Mean number of seconds between two alerts of a robot."
    )
    alert_repeats: bool = Field(
        default=False,
        description="Whether each alert is posted twice, the second time with its uuid in capital letters.",
    )
    chatter_every: int = Field(
        default=50, ge=1, description="Number of a robot's messages per message of another client on its channel."
    )
    odd_answers: bool = Field(
        default=False,
        description="Whether answers change their shape: bare, enveloped, arrays of either, null, or JSON in a string.",
    )
    privacy_seconds: float = Field(
        default=0.0,
        ge=0,
        description="Seconds after which the privacy mode is switched, which does not silence the robot. 0: never.",
    )
    account_leaks: bool = Field(
        default=False,
        description="Whether answers, alerts and messages contain account data that no document mentions.",
    )


class WaysCloudSimulator(BaseModel):
    """WAYSCloud: devices that publish by MQTT, and the REST API."""

    devices: int = Field(default=12, ge=1, description="Number of devices.")
    rate: float = Field(default=6.0, gt=0, description="Messages per second that each device publishes.")
    port: int = Field(default=0, ge=0, le=65535, description="Port of the REST API; 0 picks a free one.")
    api_key: SecretStr = SecretStr("wayscloud_demo_key")
    embedded_broker: bool = Field(
        default=True, description="Whether to start an MQTT broker. If not, devices publish to an existing one."
    )
    mqtt_host: str = "127.0.0.1"
    mqtt_port: int = Field(
        default=0, ge=0, le=65535, description="Port of the MQTT broker; 0 picks a free one for the embedded broker."
    )
    mqtt_tls_port: int = Field(
        default=8883, ge=1, le=65535, description="TLS port that the answer to `GET /credentials` names."
    )
    mqtt_username: str | None = None
    mqtt_password: SecretStr | None = None
    client_per_device: bool = Field(
        default=False, description="Whether each device has an MQTT connection of its own, instead of one for all."
    )
    paging: Literal["sound", "has_more_false", "has_more_true", "total_zero", "same_page"] = Field(
        default="sound",
        description="What is wrong with the pages of lists: nothing (sound), or how they lie about further pages.",
    )
    fail_every: int = Field(
        default=0, ge=0, description="One of this many requests fails, with 429 and 503 in turns. 0: none."
    )
    retain_first: bool = Field(
        default=False, description="Whether each sensor's first message is published as retained."
    )

    @model_validator(mode="after")
    def _know_the_broker(self) -> Self:
        if not self.embedded_broker and self.mqtt_port == 0:
            raise ValueError("mqtt_port is needed where the broker is not embedded")
        return self


class ClimaSenseSimulator(BaseModel):
    """ClimaSense devices: a hub, devices of their own, and Zigbee sensors the hub submits for."""

    devices: int = Field(
        default=10,
        ge=1,
        description="Number of devices: first a hub, and last (a third of them, if more than two) its sensors.",
    )
    rate: float = Field(
        default=0.8,
        gt=0,
        le=1.0,
        description="Requests per second that each device sends. The documented limit is 60 per minute.",
    )
    url: str | None = Field(
        default=None, description="Address of fleetlake's ClimaSense server, such as http://127.0.0.1:8480."
    )
    keys_file: Path | None = Field(
        default=None,
        description="File for the devices' ids and hashed keys, as `keys_file` in [climasense] reads it.",
    )
    retry_seconds: float = Field(
        default=1.0, gt=0, description="Seconds before a failed request is sent again; they double up to 30 s."
    )
    poll_seconds: float = Field(
        default=20.0,
        gt=0,
        description="Seconds between two requests for settings, commands and firmware. The server allows 6 s and more.",
    )
    misbehave: list[Literal["bad_json", "wrong_key", "flood", "repeat_results", "break_download"]] = Field(
        default_factory=list, description="What devices do wrong. The truth file notes it."
    )
    buffer_readings: int = Field(
        default=10_000, ge=100, description="Number of unsent readings that a device keeps; older ones are dropped."
    )


class SimulatorSettings(BaseModel):
    """Everything the simulators need to know.

    The sections of the built-in vendors are fields here, so that their simulators' code is typed. `simulator_settings`
    adds those of other vendors.
    """

    seed: int = Field(default=1, description="The same seed gives the same fleet, keys and faults.")
    host: str = Field(default="127.0.0.1", description="Address on which the simulated clouds listen.")
    truth_file: Path | None = Field(
        default=None, description="File to which the planted faults are written, as JSON lines."
    )
    cycle_seconds: float = Field(
        default=120.0, gt=1, description="Mean number of seconds from one job of a robot to the next."
    )
    history_seconds: float = Field(
        default=3600.0, ge=0, description="How many seconds back reports, notifications and logs go."
    )
    faults: FaultSettings = FaultSettings()
    karcher: KarcherSimulator = KarcherSimulator()
    ogmen: OgmenSimulator = OgmenSimulator()
    wayscloud: WaysCloudSimulator = WaysCloudSimulator()
    climasense: ClimaSenseSimulator = ClimaSenseSimulator()

    def vendor(self, name: str) -> BaseModel:
        """The section of a vendor; KeyError where it has none."""
        section = getattr(self, name, None)
        if not isinstance(section, BaseModel):
            raise KeyError(name)
        return section


@cache
def simulator_settings() -> type[SimulatorSettings]:
    """The settings with a section for each registered vendor that has a simulator."""
    sections: dict[str, Any] = {
        name: (section, Field(default_factory=section))
        for name, spec in vendors().items()
        if spec.simulator_settings and name not in SimulatorSettings.model_fields
        for section in [spec.load("simulator_settings")]
    }
    return create_model("SimulatorSettings", __base__=SimulatorSettings, __doc__=SimulatorSettings.__doc__, **sections)
