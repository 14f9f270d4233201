"""The field of ClimaSense that each metric is read from (pure)."""

from __future__ import annotations

from schemas.metrics import MetricTable

METRICS = MetricTable(
    {
        "battery.level": "battery_level",
        "power.available": "power_availability (0/1)",
        "ota.progress": "OTA status progress_percent",
        "location.latitude": "latitude",
        "location.longitude": "longitude",
        "environment.temperature": "temperature",
        "environment.humidity": "humidity",
        "environment.pressure": "pressure",
        "environment.air_quality_index": "iaq",
        "network.signal_strength": "signal_strength",
    }
)
