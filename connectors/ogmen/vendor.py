"""The registration of Ogmen."""

from __future__ import annotations

from schemas.vendors import VendorSpec

SPEC = VendorSpec(
    name="ogmen",
    connections="sockets",
    settings="connectors.ogmen.settings:OgmenSettings",
    connector="connectors.ogmen.connector:OgmenConnector",
    check="connectors.ogmen.checks:check",
    normaliser="streams.normalise.ogmen:HANDLERS",
    alarms="streams.detect.vendors.ogmen:ALARMS",
    metrics="connectors.ogmen.metrics:METRICS",
    alarms_quiet_seconds=86_400.0,
    simulator="simulators.ogmen.start:start",
    simulator_settings="simulators.settings:OgmenSimulator",
    secret_names=(
        *("registrationkey", "privacyenabledby", "privacymodeenabledby", "privacymodedisabledby"),
        *("lastdevicesettingschangedby", "houseno", "s3path"),
    ),
    owned_devices=True,
)
