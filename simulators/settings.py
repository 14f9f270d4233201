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
        default=12, ge=1, description="machines that report; the last is non-robotic, a retired one comes on top"
    )
    rate: float = Field(default=4.0, gt=0, description="socket messages per second and robot")
    port: int = Field(default=0, ge=0, le=65535, description="0 picks a free port")
    client_id: str = "fleetlake-demo"
    client_secret: SecretStr = SecretStr("karcher-demo-secret")
    token_seconds: int = Field(default=3600, gt=0, description="life of an access token")
    token_limit: int = Field(default=10, gt=0, description="token requests per 10 minutes and client")
    rest_limit: int = Field(default=5, gt=0, description="requests per second and endpoint")


class OgmenSimulator(BaseModel):
    """The Ogmen cloud: sockets and REST on one port; robots that post alerts to the webhook."""

    devices: int = Field(default=10, ge=1)
    rate: float = Field(default=8.0, gt=0, description="socket messages per second and robot")
    port: int = Field(default=0, ge=0, le=65535, description="0 picks a free port")
    socket_path: str = Field(default="/ws/{device_id}", description="assumed; must hold {device_id}")
    token: SecretStr | None = Field(
        default=None, description="bearer token that REST and sockets demand; none is documented"
    )
    map_seconds: float = Field(default=30.0, gt=0, description="time between two maps of a robot")
    map_cells: int = Field(default=120, ge=4, le=2000, description="width and height of a map in cells")
    cross_battery: bool = Field(
        default=False,
        description="plant crossings on batteries, too; batteries are read by REST only, so poll every few seconds",
    )
    webhook_url: str | None = Field(default=None, description="URL template of the product's webhook, with {device_id}")
    webhook_secret: SecretStr = SecretStr("ogmen-demo-secret")
    alert_seconds: float = Field(default=30.0, gt=0, description="mean time between two alerts of a robot")
    alert_repeats: bool = Field(
        default=False, description="every alert is posted twice, the second time with its uuid in capitals"
    )
    chatter_every: int = Field(default=50, ge=1, description="messages of the robot per message of another client")
    odd_answers: bool = Field(
        default=False,
        description="REST answers change their shape: bare, enveloped, arrays of either, null, in a string",
    )
    privacy_seconds: float = Field(
        default=0.0,
        ge=0,
        description="period of the privacy mode, which does not silence the robot; 0: never on",
    )
    account_leaks: bool = Field(
        default=False, description="answers, alerts and messages contain account data that no document mentions"
    )


class WaysCloudSimulator(BaseModel):
    """WAYSCloud: devices that publish by MQTT, and the REST API."""

    devices: int = Field(default=12, ge=1)
    rate: float = Field(default=6.0, gt=0, description="MQTT messages per second and device")
    port: int = Field(default=0, ge=0, le=65535, description="of the REST API; 0 picks a free port")
    api_key: SecretStr = SecretStr("wayscloud_demo_key")
    embedded_broker: bool = Field(default=True, description="start an MQTT broker; false: publish to an existing one")
    mqtt_host: str = "127.0.0.1"
    mqtt_port: int = Field(default=0, ge=0, le=65535, description="0 picks a free port for the embedded broker")
    mqtt_tls_port: int = Field(default=8883, ge=1, le=65535, description="TLS port in the answer to `GET /credentials`")
    mqtt_username: str | None = None
    mqtt_password: SecretStr | None = None
    client_per_device: bool = Field(default=False, description="one MQTT connection per device instead of one for all")
    paging: Literal["sound", "has_more_false", "has_more_true", "total_zero", "same_page"] = Field(
        default="sound", description="what is wrong with the pages of lists"
    )
    fail_every: int = Field(
        default=0, ge=0, description="one of this many requests fails, with 429 and 503 in turns; 0: none"
    )
    retain_first: bool = Field(default=False, description="each sensor's first message is published as retained")

    @model_validator(mode="after")
    def _know_the_broker(self) -> Self:
        if not self.embedded_broker and self.mqtt_port == 0:
            raise ValueError("mqtt_port is needed where the broker is not embedded")
        return self


class ClimaSenseSimulator(BaseModel):
    """ClimaSense devices: a hub, devices of their own, and Zigbee sensors the hub submits for."""

    devices: int = Field(
        default=10, ge=1, description="the first is the hub, the last third (if more than two) its sensors"
    )
    rate: float = Field(
        default=0.8, gt=0, le=1.0, description="posts per second and device; the documented limit is 60 per minute"
    )
    url: str | None = Field(default=None, description="base URL of the product's server, e.g. http://127.0.0.1:8480")
    keys_file: Path | None = Field(
        default=None, description="file to which the devices' ids and hashed keys are written for the product, as JSON"
    )
    retry_seconds: float = Field(
        default=1.0, gt=0, description="seconds before the first retry of a failed post; doubles up to 30 s"
    )
    poll_seconds: float = Field(
        default=20.0,
        gt=0,
        description="seconds between two checks for settings, commands and firmware; the server allows 6 s and more",
    )
    misbehave: list[Literal["bad_json", "wrong_key", "flood", "repeat_results", "break_download"]] = Field(
        default_factory=list, description="what devices do wrong; noted in the truth file"
    )
    buffer_readings: int = Field(
        default=10_000, ge=100, description="unsent readings a device keeps; older ones are dropped"
    )


class SimulatorSettings(BaseModel):
    """Everything the simulators need to know.

    The sections of the built-in vendors are fields here, so that their simulators' code is typed. `simulator_settings`
    adds those of other vendors.
    """

    seed: int = Field(default=1, description="the same seed gives the same fleet, keys and faults")
    host: str = Field(default="127.0.0.1", description="address the simulated clouds listen on")
    truth_file: Path | None = Field(default=None, description="where planted faults are written, as JSON Lines")
    cycle_seconds: float = Field(default=120.0, gt=1, description="mean time from one job of a robot to the next")
    history_seconds: float = Field(default=3600.0, ge=0, description="how far back reports, notifications and logs go")
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
