"""The registration of Kärcher."""

from __future__ import annotations

from schemas.vendors import VendorSpec

SPEC = VendorSpec(
    name="karcher",
    connections="sockets",
    settings="connectors.karcher.settings:KarcherSettings",
    connector="connectors.karcher.connector:KarcherConnector",
    check="connectors.karcher.checks:check",
    normaliser="streams.normalise.karcher:HANDLERS",
    alarms="streams.detect.vendors.karcher:ALARMS",
    metrics="connectors.karcher.metrics:METRICS",
    simulator="simulators.karcher.start:start",
    simulator_settings="simulators.settings:KarcherSimulator",
    reprocessor="connectors.karcher.reprocessing:KarcherReprocessor",
    secret_names=("lockcode", "networkname", "defaultgateway", "executionrequester"),
    owned_devices=True,
)
