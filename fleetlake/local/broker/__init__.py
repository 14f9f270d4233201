"""The embedded Kafka broker (design decision 1): what runs when no bootstrap server is configured."""

from fleetlake.local.broker.embedded import EmbeddedKafka, find_bootstrap, run_broker
from fleetlake.local.broker.jars import KAFKA_VERSION, BrokerError, cache_dir

__all__ = ["KAFKA_VERSION", "BrokerError", "EmbeddedKafka", "cache_dir", "find_bootstrap", "run_broker"]
