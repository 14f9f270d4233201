"""Consumer groups of a test's own."""

from __future__ import annotations

import uuid

from runtime.kafka import KafkaSettings


def of_its_own(kafka: KafkaSettings) -> KafkaSettings:
    return kafka.model_copy(update={"application_id": f"division-{uuid.uuid4().hex[:8]}", "session_timeout_seconds": 3})
