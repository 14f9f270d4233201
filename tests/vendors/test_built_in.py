"""The registrations of the vendors of this repository."""

from __future__ import annotations

import json

import pytest

from connectors.climasense.vendor import SPEC as CLIMASENSE
from connectors.karcher.vendor import SPEC as KARCHER
from connectors.ogmen.vendor import SPEC as OGMEN
from connectors.wayscloud.vendor import SPEC as WAYSCLOUD
from schemas.redact import is_secret_name, redact
from schemas.vendors import BUILT_IN, RESERVED, RegistrationError, VendorSpec, vendors

SPECS = {"karcher": KARCHER, "ogmen": OGMEN, "wayscloud": WAYSCLOUD, "climasense": CLIMASENSE}
PARTS = {
    "karcher": ["KarcherSettings", "KarcherConnector", "check", "start", "KarcherSimulator", "KarcherReprocessor"],
    "ogmen": ["OgmenSettings", "OgmenConnector", "check", "start", "OgmenSimulator"],
    "wayscloud": ["WayscloudSettings", "WayscloudConnector", "check", "start", "WaysCloudSimulator"],
    "climasense": [
        *("ClimasenseSettings", "ClimasenseConnector", "check", "start", "ClimaSenseSimulator"),
        "ClimasenseReprocessor",
    ],
}
OF_A_VENDOR = {
    "karcher": ["lockCode", "networkName", "defaultGateway", "executionRequester"],
    "ogmen": [
        *("registrationKey", "privacyEnabledBy", "privacy_mode_enabled_by", "privacy_mode_disabled_by"),
        *("last_device_settings_changed_by", "houseNo", "s3Path"),
    ],
    "climasense": ["ieee_address"],
}


def test_all_are_registered_by_their_names() -> None:
    assert tuple(SPECS) == BUILT_IN
    for name, spec in SPECS.items():
        assert vendors()[name] is spec
        assert (spec.name, spec.package, list(spec.problems())) == (name, "fleetlake", [])


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_part_is_where_the_registration_says(name: str) -> None:
    spec = SPECS[name]
    parts = [spec.load("settings"), spec.load("connector"), spec.load("check"), spec.load("simulator")]
    parts.append(spec.load("simulator_settings"))
    if spec.reprocessor:
        parts.append(spec.load("reprocessor"))
    assert [part.__name__ for part in parts] == PARTS[name]
    for part in parts:
        assert name in part.__module__ or part.__module__ == "simulators.settings"
    handlers, metrics = spec.load("normaliser"), spec.load("metrics")
    assert handlers and all(each.startswith(f"{name}.") for each in handlers)
    assert metrics.sources


def test_which_vendors_have_devices_that_processes_share() -> None:
    assert {name for name, spec in SPECS.items() if spec.owned_devices} == {"karcher", "ogmen"}


@pytest.mark.parametrize(("vendor", "name"), [(v, name) for v, names in OF_A_VENDOR.items() for name in names])
def test_what_is_secret_with_one_vendor_is_hidden(vendor: str, name: str) -> None:
    assert is_secret_name(name)
    assert b"1234" not in redact(json.dumps({"a": {name: "1234"}}).encode())
    assert len(SPECS[vendor].secret_names) == len(OF_A_VENDOR[vendor])


def specification(**changes: object) -> VendorSpec:
    parts = dict.fromkeys(("settings", "connector", "check", "normaliser", "metrics"), "a.b:c")
    return VendorSpec(**{"name": "acme", **parts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "Acme", "1acme", "ac-me", "ac_me"])
def test_a_name_is_lower_case_letters_and_digits(name: str) -> None:
    assert list(specification(name=name).problems()) == [
        f"name {name!r} must be lower-case letters and digits, and begin with a letter"
    ]
    assert list(specification(name="acme2").problems()) == []


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_names_that_mean_something_else_are_reserved(name: str) -> None:
    assert list(specification(name=name).problems()) == [f"name {name!r} is reserved"]


def test_the_reserved_names() -> None:
    assert {
        *("alarms", "all", "broker", "fleetlake", "kafka", "notify"),
        *("pipeline", "simulate", "sink", "stream", "unknown"),
    } == RESERVED


@pytest.mark.parametrize("part", ["settings", "connector", "check", "normaliser", "metrics"])
def test_required_parts(part: str) -> None:
    assert list(specification(**{part: ""}).problems()) == [f"{part} is missing"]
    assert list(specification(**{part: "a.b"}).problems()) == [f"{part} 'a.b' must read package.module:attribute"]


@pytest.mark.parametrize("part", ["simulator", "simulator_settings", "reprocessor"])
def test_optional_parts(part: str) -> None:
    assert list(specification(**{part: ""}).problems()) == []
    assert list(specification(**{part: ":c"}).problems()) == [f"{part} ':c' must read package.module:attribute"]
    with pytest.raises(RegistrationError, match=f"vendor acme .*: {part} is not part of the registration"):
        specification().load(part)  # type: ignore[arg-type]


def test_a_part_that_cannot_be_imported_says_which() -> None:
    with pytest.raises(RegistrationError, match=r"settings 'a\.b:c': ModuleNotFoundError"):
        specification().load("settings")
    with pytest.raises(RegistrationError, match=r"check 'json:nothing': AttributeError"):
        specification(check="json:nothing").load("check")
    assert specification(check="json:dumps").load("check") is json.dumps
