"""The field of WAYSCloud that each metric is read from (pure)."""

from __future__ import annotations

from schemas.metrics import MetricTable

METRICS = MetricTable(
    {
        "battery.level": "battery_level",
        "device.mode": "mode",
        "door.open": "door_open",
        "connection.online": "is_online",
        "device.stability_score": "stability_score",
        "device.messages_24h": "messages_24h",
        "health.score": "health_score",
        "health.status": "health_status",
        "health.uptime": "components.uptime",
        "health.alarm_burden": "components.alarm_burden",
        "health.connection_stability": "components.connection_stability",
        "health.telemetry_freshness": "components.telemetry_freshness",
        "environment.temperature": "temperature",
        "environment.humidity": "humidity",
        "environment.pressure": "pressure",
        "environment.air_quality_index": "iaq",
        "network.signal_strength": "signal_strength",
        "network.connection_status": "connection_status",
        "connection.last_contact": "last_seen",
    }
)
