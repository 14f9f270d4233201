"""A vendor is one registration: what it must hold, and what is said of one that is wrong."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel

from fleetlake.config import UserError, settings_class
from schemas import metrics, redact, wire
from schemas.envelope import BackfillWindow, Envelope
from schemas.metrics import MetricTable, catalogue
from schemas.topics import READINGS, raw_topic, topic_specs
from schemas.vendors import BUILT_IN, BackfillTypes, RegistrationError, VendorSpec, vendor_names, vendors
from simulators.settings import SimulatorSettings
from streams import normalise
from streams.detect.vendor_alerts import readers
from streams.settings import StreamSettings
from tests.support.normalising import normalise_step, of, raw
from tests.support.registration import forget

PARTS = {
    "name": "acme",
    "settings": "acme_parts:Settings",
    "connector": "acme_parts:Connector",
    "check": "acme_parts:check",
    "normaliser": "acme_parts:HANDLERS",
    "metrics": "acme_parts:METRICS",
}
PARTS_MODULE = """
from pydantic import BaseModel
from schemas.metrics import Metric, MetricTable

class Settings(BaseModel):
    port: int = 1

class Connector: ...

async def check(settings, state_dir): return []

HANDLERS = {"acme.posted": print}
ALARMS = {"fault": print}
METRICS = MetricTable({"battery.level": "bat"}, own=(Metric("blade.height", "number", "mm", "Height of the blade."),))
"""

ROWS = """
from streams.normalise.message import into
from streams.normalise.values import load_json

def rows(message):
    for at, level in load_json(message.envelope.data):
        message.read(into("battery.level"), level, "", message.stamp(at, "at"))

HANDLERS = {"acme.posted": rows, "acme.stored": rows}
"""


class Site:
    """A folder on sys.path that packages are installed into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, spec: str, entry: str = "acme = acme_spec:SPEC", distribution: str = "acme_fleet") -> None:
        info = self.folder / f"{distribution}-1.2.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        info.joinpath("entry_points.txt").write_text(f"[fleetlake.vendors]\n{entry}\n")
        self.folder.joinpath("acme_spec.py").write_text(
            f"from schemas.vendors import BackfillTypes, VendorSpec\nSPEC = {spec}\n"
        )

    def parts(self, text: str = PARTS_MODULE) -> None:
        self.folder.joinpath("acme_parts.py").write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    yield Site(tmp_path)
    for name in ("acme_spec", "acme_parts"):
        sys.modules.pop(name, None)
    monkeypatch.undo()
    forget()


def spec_of(**changes: object) -> str:
    parts = {name: value for name, value in {**PARTS, **changes}.items() if value}
    return f"VendorSpec({', '.join(f'{name}={value!r}' for name, value in parts.items())})"


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_part_of_a_built_in_vendor_is_there(name: str) -> None:
    spec = vendors()[name]
    assert (spec.name, spec.package, list(spec.problems())) == (name, "fleetlake", [])
    assert issubclass(spec.load("settings"), BaseModel)
    assert inspect.isclass(spec.load("connector")) and inspect.iscoroutinefunction(spec.load("connector").run)
    assert inspect.iscoroutinefunction(spec.load("check"))
    assert len(inspect.signature(spec.load("check")).parameters) == 2
    assert spec.load("normaliser")
    assert isinstance(spec.load("metrics"), MetricTable)
    assert inspect.iscoroutinefunction(spec.load("simulator"))
    assert SimulatorSettings.model_fields[name].annotation is spec.load("simulator_settings")
    if spec.alarms:
        assert spec.load("alarms")
    if spec.reprocessor:
        assert callable(spec.load("reprocessor")({}))


def test_built_in_vendors_come_first_and_only_they_are_there() -> None:
    assert vendor_names()[: len(BUILT_IN)] == BUILT_IN


def test_a_part_is_the_same_object_each_time() -> None:
    assert vendors()["karcher"].load("metrics") is vendors()["karcher"].load("metrics")


def test_a_package_adds_a_vendor(site: Site) -> None:
    site.parts()
    site.install(spec_of(secret_names=""))
    assert vendor_names() == (*BUILT_IN, "acme")
    assert vendors()["acme"].package == "acme_fleet 1.2"
    assert settings_class()().vendor("acme").model_dump() == {"port": 1}
    assert topic_specs()[4].name == "telemetry.raw.acme.v1"
    assert catalogue()["blade.height"].unit == "mm"
    assert metrics.unit_of("blade.height") == "mm"
    assert "acme.posted" in normalise.handlers()


def test_a_package_adds_alarms_of_its_vendor(site: Site) -> None:
    site.parts()
    site.install(spec_of(alarms="acme_parts:ALARMS", alarms_quiet_seconds=60.0))
    assert readers()["acme", "fault"] is print
    assert StreamSettings().vendor_quiet_seconds == {"ogmen": 86400.0, "acme": 60.0}


def test_alarms_that_cannot_be_loaded_name_the_package(site: Site) -> None:
    site.parts()
    site.install(spec_of(alarms="acme_parts:NOTHING"))
    with pytest.raises(RegistrationError, match=r"vendor acme .*: alarms 'acme_parts:NOTHING'"):
        readers()


def test_a_package_back_fills_its_vendor(site: Site) -> None:
    """A stored reading that came live is not emitted once more; one that did not is."""
    site.parts(PARTS_MODULE + ROWS)
    site.install(spec_of(backfill=BackfillTypes(live="acme.posted", stored="acme.stored")))
    window = BackfillWindow(at(0), at(60), 1.0)

    def envelope(kind: str, *rows: tuple[int, int], **attributes: str) -> Envelope:
        data = json.dumps([(at(second).isoformat(), level) for second, level in rows]).encode()
        return Envelope(kind, kind, "acme/http", "acme:1", at(90), data, attributes=attributes)

    topic = raw_topic("acme")
    envelopes = [envelope("acme.posted", (10, 5)), envelope("acme.stored", (10, 5), (20, 6), **window.attributes())]
    outputs = normalise_step(topic).process([raw(each, n, topic) for n, each in enumerate(envelopes)], 0)
    emitted = [wire.decode_observation(output.value or b"").readings for output in of(outputs, READINGS)]
    assert [[(reading.observed_at, reading.value_number) for reading in readings] for readings in emitted] == [
        [(at(10), 5.0)],
        [(at(20), 6.0)],
    ]


def at(second: int) -> datetime:
    return datetime(2026, 3, 16, tzinfo=UTC) + timedelta(seconds=second)


def test_a_vendor_hides_names_of_its_own(site: Site) -> None:
    payload = b'{"battery": 5, "owner_first-name": "Ada"}'
    assert redact.redact(payload) == payload
    site.install(f"VendorSpec(**{PARTS!r}, secret_names=('ownerfirstname',))")
    forget()
    assert redact.redact(payload) == b'{"battery":5,"owner_first-name":"[redacted]"}'
    assert redact.excerpt(b'{"ownerFirstName": "Ada", "battery') == '{"ownerFirstName": [redacted], "battery'


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (spec_of(check="", normaliser=""), "missing 2 required keyword-only arguments: 'check' and 'normaliser'"),
        (spec_of(name="Acme"), "name 'Acme' must be lower-case letters and digits"),
        (spec_of(name="kafka"), "name 'kafka' is reserved; name 'kafka' is not the entry point's name"),
        (spec_of(metrics="acme_parts.METRICS"), "metrics 'acme_parts.METRICS' must read package.module:attribute"),
        (f"VendorSpec(**{ {**PARTS, 'check': ''}!r})", "check is missing"),
        (spec_of(name="other"), "name 'other' is not the entry point's name"),
        ("{'name': 'acme'}", "is dict, not a schemas.vendors.VendorSpec"),
        ("undefined", "NameError: name 'undefined' is not defined"),
    ],
)
def test_a_wrong_registration_names_its_package_and_what_is_wrong(site: Site, spec: str, said: str) -> None:
    site.install(spec)
    with pytest.raises(RegistrationError) as wrong:
        vendors()
    assert str(wrong.value).startswith(
        "package acme_fleet 1.2, entry point 'acme' of fleetlake.vendors (acme_spec:SPEC): "
    )
    assert said in str(wrong.value)
    with pytest.raises(UserError, match=r"acme_fleet 1\.2"):
        settings_class()


def test_an_entry_point_whose_module_is_not_there(site: Site) -> None:
    site.install(spec_of(), "acme = acme_absent:SPEC")
    with pytest.raises(RegistrationError, match=r"acme_fleet 1\.2.*No module named 'acme_absent'"):
        vendors()


def test_a_name_is_registered_once(site: Site) -> None:
    site.install(spec_of(name="karcher"), "karcher = acme_spec:SPEC")
    with pytest.raises(RegistrationError, match=r"acme_fleet.*package fleetlake has registered karcher already"):
        vendors()


@pytest.mark.parametrize("part", ["settings", "connector", "check", "normaliser", "metrics"])
def test_a_part_that_cannot_be_loaded_is_named(site: Site, part: str) -> None:
    site.parts("")
    site.install(spec_of())
    with pytest.raises(RegistrationError) as wrong:
        vendors()["acme"].load(part)  # type: ignore[arg-type]
    assert str(wrong.value).startswith(f"vendor acme (package acme_fleet 1.2): {part} 'acme_parts:{PARTS[part][11:]}'")
    assert "has no attribute" in str(wrong.value)


def test_an_optional_part_that_is_not_there_says_so(site: Site) -> None:
    site.install(spec_of())
    with pytest.raises(RegistrationError, match="simulator is not part of the registration"):
        vendors()["acme"].load("simulator")


def test_a_metric_that_nobody_knows_and_one_that_is_another_already(site: Site) -> None:
    site.parts(PARTS_MODULE.replace('"battery.level": "bat"', '"battery.colour": "bat"'))
    site.install(spec_of())
    with pytest.raises(RegistrationError, match=r"acme.*no metric battery\.colour"):
        catalogue()


def test_a_metric_of_the_catalogue_cannot_be_defined_otherwise(site: Site) -> None:
    site.parts(PARTS_MODULE.replace('"blade.height"', '"battery.level"'))
    site.install(spec_of())
    with pytest.raises(RegistrationError, match=r"acme.*battery\.level is another metric already"):
        catalogue()


def test_a_normaliser_takes_only_its_own_vendors_messages(site: Site) -> None:
    site.parts(PARTS_MODULE.replace('"acme.posted"', '"karcher.status"'))
    site.install(spec_of())
    with pytest.raises(RegistrationError, match=r"acme.*must begin with acme\., not karcher\.status"):
        normalise.handlers()


def test_names_with_a_hyphen_or_a_digit_first_are_refused() -> None:
    spec = VendorSpec(**PARTS)
    assert list(spec.problems()) == []
    for name in ("acme-robots", "4me", ""):
        assert any("must be lower-case" in problem for problem in replace(spec, name=name).problems())
