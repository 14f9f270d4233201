"""The registration of WAYSCloud."""

from __future__ import annotations

from schemas.vendors import BackfillTypes, VendorSpec

SPEC = VendorSpec(
    name="wayscloud",
    connections="MQTT",
    settings="connectors.wayscloud.settings:WayscloudSettings",
    connector="connectors.wayscloud.connector:WayscloudConnector",
    check="connectors.wayscloud.checks:check",
    normaliser="streams.normalise.wayscloud:HANDLERS",
    alarms="streams.detect.vendors.wayscloud:ALARMS",
    metrics="connectors.wayscloud.metrics:METRICS",
    backfill=BackfillTypes(live="wayscloud.publish", stored="wayscloud.telemetry.log"),
    simulator="simulators.wayscloud.start:start",
    simulator_settings="simulators.settings:WaysCloudSimulator",
)
