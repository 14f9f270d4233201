"""Values for the keys whose default is nothing, as `fleetlake config --example` shows them. Pure."""

from __future__ import annotations

from typing import Any

EXAMPLES: dict[str, Any] = {
    "pipeline.vendors": ["karcher", "climasense"],
    "kafka.bootstrap_servers": "kafka-1:9093,kafka-2:9093",
    "kafka.ssl_ca_file": "/etc/fleetlake/kafka-ca.pem",
    "kafka.ssl_certificate_file": "/etc/fleetlake/kafka.pem",
    "kafka.ssl_key_file": "/etc/fleetlake/kafka.key",
    "ogmen.devices": ["ba8555ae-edd6-4b1c-aece-0242ac120002"],
    "ogmen.accounts": ["a7b1c0de-1111-4222-8333-444455556666"],
    "ogmen.dogs": {"dog-17": "ba8555ae-edd6-4b1c-aece-0242ac120002"},
    "ogmen.socket_url": "wss://ogmen.example.com/ws/{device_id}",
    "ogmen.api_url": "https://ogmen.example.com",
    "ogmen.webhook_certificate_file": "/etc/fleetlake/webhook.pem",
    "ogmen.webhook_key_file": "/etc/fleetlake/webhook.key",
    "wayscloud.mqtt_host": "mqtt.example.com",
    "wayscloud.mqtt_ca_file": "/etc/fleetlake/mqtt-ca.pem",
    "wayscloud.mqtt_certificate_file": "/etc/fleetlake/mqtt.pem",
    "wayscloud.mqtt_key_file": "/etc/fleetlake/mqtt.key",
    "wayscloud.device_credentials": [{"device_id": "sensor-00007", "username": "d-7", "password": "…"}],
    "wayscloud.groups": {"basement": ["sensor-00007", "sensor-00008"]},
    "wayscloud.profiles": {"cold-store": ["sensor-00007"]},
    "climasense.certificate_file": "/etc/fleetlake/climasense.pem",
    "climasense.key_file": "/etc/fleetlake/climasense.key",
    "climasense.database_url": "postgresql+psycopg://fleetlake:password@db/climasense",
    "climasense.keys_file": "climasense-keys.toml",
    "stream.instance_id": "worker-1",
    "stream.rules_file": "rules.yaml",
    "stream.groups": {"hall-2": ["karcher:1.454-500.0/002006", "climasense:cs-*"]},
    "stream.profiles": {"cold-store": ["wayscloud:sensor-00007"]},
    "stream.maintenance": [
        {
            "scope_type": "group",
            "scope": "hall-2",
            "starts_at": "2026-12-24T12:00:00Z",
            "ends_at": "2026-12-27T06:00:00Z",
        }
    ],
    "stream.attributes": {"site": {"Hamburg": ["karcher:1.454-500.0/*"]}},
    "stream.wayscloud_datapoints": {"temp_f": {"metric": "environment.temperature", "unit": "°F"}},
    "stream.dedupe_max_ids": 100_000,
    "sink.delta.url": "s3://bucket/fleet",
    "sink.delta.storage_options": {"aws_region": "eu-central-1", "aws_endpoint_url": "https://s3.example.com"},
    "sink.delta.expire_days": {"readings": 400, "dead_letters": 90},
    "alarms.database_url": "postgresql+psycopg://fleetlake:password@db/alarms",
    "notify.channels": {
        "ops": {"channel_type": "webhook", "config": {"url": "https://example.com/hook", "secret_file": "hook.secret"}},
        "night": {
            "channel_type": "email",
            "config": {
                "host": "mail.example.com",
                "sender": "fleet@example.com",
                "recipients": ["night@example.com"],
            },
        },
    },
    "notify.policies": {"worst": {"severity_filter": ["critical", "major"], "channel_ids": ["ops", "night"]}},
    "alarms.certificate_file": "/etc/fleetlake/alarms.pem",
    "alarms.key_file": "/etc/fleetlake/alarms.key",
    "ui.certificate_file": "/etc/fleetlake/ui.pem",
    "ui.key_file": "/etc/fleetlake/ui.key",
    "ui.public_url": "https://fleet.example.com",
    "ui.tile_url": "https://tile.example.com/{z}/{x}/{y}.png",
    "ui.tile_attribution": "© OpenStreetMap contributors",
    "sql.tls_certificate": "/etc/fleetlake/sql.pem",
    "sql.tls_key": "/etc/fleetlake/sql.key",
}
"""By table and key. A test builds the configuration of them, and misses the tables that have none."""
