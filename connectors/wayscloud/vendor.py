"""The registration of WAYSCloud."""

from __future__ import annotations

from schemas.vendors import VendorSpec

SPEC = VendorSpec(
    name="wayscloud",
    connections="MQTT",
    settings="connectors.wayscloud.settings:WayscloudSettings",
    connector="connectors.wayscloud.connector:WayscloudConnector",
    check="connectors.wayscloud.checks:check",
    normaliser="streams.normalise.wayscloud:HANDLERS",
    metrics="connectors.wayscloud.metrics:METRICS",
    simulator="simulators.wayscloud.start:start",
    simulator_settings="simulators.settings:WaysCloudSimulator",
)
