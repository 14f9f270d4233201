"""The embedded Kafka broker (docs/adr/0001-embedded-kafka.md), used when no bootstrap server is configured."""

from fleetlake.local.broker.embedded import EmbeddedKafka, run_broker
from fleetlake.local.broker.folder import find_bootstrap
from fleetlake.local.broker.jars import KAFKA_VERSION, BrokerError, cache_dir

__all__ = ["KAFKA_VERSION", "BrokerError", "EmbeddedKafka", "cache_dir", "find_bootstrap", "run_broker"]
