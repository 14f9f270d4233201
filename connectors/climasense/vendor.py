"""The registration of ClimaSense."""

from __future__ import annotations

from schemas.vendors import VendorSpec

SPEC = VendorSpec(
    name="climasense",
    connections="devices",
    settings="connectors.climasense.settings:ClimasenseSettings",
    connector="connectors.climasense.connector:ClimasenseConnector",
    check="connectors.climasense.checks:check",
    normaliser="streams.normalise.climasense:HANDLERS",
    metrics="connectors.climasense.metrics:METRICS",
    simulator="simulators.climasense.start:start",
    simulator_settings="simulators.settings:ClimaSenseSimulator",
    reprocessor="connectors.climasense.reprocessing:ClimasenseReprocessor",
    secret_names=("ieeeaddress",),
)
