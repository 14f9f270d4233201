"""WAYSCloud: sensors that publish by MQTT, the REST API, and an embedded MQTT broker."""

from simulators.wayscloud.broker import BrokerOptions, Manners, run_mqtt_broker
from simulators.wayscloud.cloud import WaysCloud
from simulators.wayscloud.publisher import SensorFleet
from simulators.wayscloud.store import TelemetryStore

__all__ = ["BrokerOptions", "Manners", "SensorFleet", "TelemetryStore", "WaysCloud", "run_mqtt_broker"]
