"""The recorded payloads of `tests/recordings` and the golden records beside them.

`python -m tests.support.recordings` writes the golden files anew; read the difference before you commit it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schemas import records, wire
from schemas.envelope import Envelope, message_id
from schemas.metrics import COMMON
from schemas.timestamps import parse_iso
from schemas.topics import raw_topic
from schemas.vendors import vendor_names
from streams.normalise import Normalised, Options, normalise

FOLDER = Path(__file__).parent.parent / "recordings"
RECORDINGS = sorted(p for p in FOLDER.glob("*/*.json") if not p.name.endswith(".golden.json"))


def payload_of(recording: dict[str, Any]) -> bytes:
    if "payload_hex" in recording:
        return bytes.fromhex(recording["payload_hex"])
    if "payload_text" in recording:
        return str(recording["payload_text"]).encode()
    return json.dumps(recording["payload"], ensure_ascii=False).encode()


def envelope_of(recording: dict[str, Any]) -> Envelope:
    payload = payload_of(recording)
    return Envelope(
        id=message_id([recording["device_id"], payload]),
        type=recording["type"],
        source="recording",
        device_id=recording["device_id"],
        received_at=parse_iso(recording["received_at"]),
        data=payload,
        attributes=recording.get("attributes", {}),
    )


def run(path: Path, options: Options | None = None) -> Normalised:
    recording = json.loads(path.read_text())
    origin = wire.Origin(raw_topic(path.parent.name), 0, 7)
    return normalise(envelope_of(recording), origin, options or Options())


def as_json(result: Normalised) -> dict[str, Any]:
    made = {"observation": result.observation, "events": result.events, "dead_letter": result.dead_letter}
    return {name: json.loads(wire.encode(record)) for name, record in made.items() if record is not None}


def golden_of(path: Path) -> Path:
    return path.with_suffix(".golden.json")


def assert_contract(result: Normalised) -> None:
    if result.observation is not None:
        records.Observation.model_validate_json(wire.encode(result.observation))
        for reading in result.observation.readings:
            assert_catalogued(reading)
    if result.events is not None:
        records.EventSet.model_validate_json(wire.encode(result.events))
    if result.dead_letter is not None:
        records.DeadLetter.model_validate_json(wire.encode(result.dead_letter))


def assert_catalogued(reading: wire.Reading) -> None:
    """A reading's kind and unit are those of its metric, or it bears its vendor's name."""
    if reading.metric.partition(".")[0] in vendor_names():
        assert (reading.unit == "1") is (reading.value_number is not None)
        return
    metric = COMMON[reading.metric]
    assert getattr(reading, f"value_{metric.kind}") is not None
    assert reading.unit == metric.unit


if __name__ == "__main__":
    for recorded in RECORDINGS:
        text = json.dumps(as_json(run(recorded)), indent=1, ensure_ascii=False)
        golden_of(recorded).write_text(text + "\n")
