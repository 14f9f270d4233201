"""What the documents' payloads, and hostile variants of them, are normalised to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.vendors import BUILT_IN
from streams.normalise import Options, handlers
from tests.support.recordings import FOLDER, RECORDINGS, as_json, assert_contract, golden_of, run


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", RECORDINGS, ids=name_of)
def test_recording_gives_its_golden_records(path: Path) -> None:
    assert as_json(run(path)) == json.loads(golden_of(path).read_text())


@pytest.mark.parametrize("path", RECORDINGS, ids=name_of)
def test_records_keep_the_contract(path: Path) -> None:
    result = run(path)
    assert_contract(result)
    if json.loads(path.read_text())["documented"]:
        assert result.dead_letter is None


def test_every_vendor_has_a_normaliser_and_recordings_good_and_hostile() -> None:
    for vendor in BUILT_IN:
        assert any(kind.startswith(f"{vendor}.") for kind in handlers()), vendor
        names = [path.stem for path in (FOLDER / vendor).glob("*.json") if not path.name.endswith(".golden.json")]
        assert any(name.startswith("hostile") for name in names), vendor
        assert any(not name.startswith("hostile") for name in names), vendor


def test_the_copy_of_a_report_by_socket_is_the_same_event() -> None:
    by_rest = run(FOLDER / "karcher/cleaning_report.json").events
    by_socket = run(FOLDER / "karcher/datapoints_cleaning_report.json").events
    assert by_rest is not None
    assert by_socket is not None
    assert by_rest.events == by_socket.events


def test_no_secret_setting_is_taken() -> None:
    text = json.dumps(as_json(run(FOLDER / "karcher/status_cv50.json")))
    assert "9999" not in text
    assert "lockcode" not in text


def test_coordinates_of_cv50_follow_the_configuration() -> None:
    result = run(FOLDER / "karcher/datapoints_location.json", Options(cv50_millimetres=10))
    assert result.observation is not None
    assert [r.value_number for r in result.observation.readings[:2]] == [16.36, 63.55]


def test_unparsed_payload_is_masked_and_cut() -> None:
    letter = run(FOLDER / "karcher/hostile_not_json.json").dead_letter
    assert letter is not None
    assert "someone@example.com" not in letter.payload
    assert letter.payload_bytes == 87
