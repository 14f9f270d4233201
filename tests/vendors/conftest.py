"""The vendors' pages are held against connectors that publish to the session's Kafka."""

from tests.connectors.conftest import kafka_settings, publisher

__all__ = ["kafka_settings", "publisher"]
