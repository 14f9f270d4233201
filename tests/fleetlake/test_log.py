"""Libraries say a thing once a minute; we say what we say, in the form that is asked for, into files that end."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console

from fleetlake.local.progress import logging_to
from runtime.log import FORMAT, LOG_FILE, STAGE_NAME, JsonFormatter, LibraryFilter, LogOptions, TextFormatter
from tests.support.paths import ROOT


def _record(name: str, message: str, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, message, (), None)


def test_a_library_repeats_itself_once_a_minute_only() -> None:
    now = [0.0]
    shown = LibraryFilter(lambda: now[0]).filter
    assert shown(_record("aiokafka.client", "lost %s"))
    assert not shown(_record("aiokafka.client", "lost %s"))
    assert shown(_record("aiokafka.client", "other"))
    assert shown(_record("aiokafka", "lost %s"))
    now[0] = 60.0
    assert shown(_record("aiokafka.client", "lost %s"))


def test_a_library_speaks_of_errors_only_and_without_traceback() -> None:
    shown = LibraryFilter(lambda: 0.0).filter
    assert not shown(_record("amqtt.broker", "refused", logging.WARNING))
    try:
        raise ValueError("deep inside")
    except ValueError:
        record = logging.LogRecord("amqtt.broker", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    assert shown(record)
    assert record.exc_info is None


def test_our_own_lines_are_never_dropped() -> None:
    shown = LibraryFilter(lambda: 0.0).filter
    assert shown(_record("connectors.common.connection_state", "down", logging.WARNING))
    assert shown(_record("connectors.common.connection_state", "down", logging.WARNING))


# -- form


def line_of(record: logging.LogRecord, stage: str = "delta") -> dict[str, object]:
    made: dict[str, object] = json.loads(JsonFormatter(stage).format(record))
    return made


def test_a_line_of_json_has_zone_stage_and_code() -> None:
    record = logging.LogRecord("sinks.consumer", logging.INFO, "", 0, "%s: reads %d partitions of %d topics", (), None)
    record.args = ("delta", 4, 2)
    record.created = 1795849200.25
    assert line_of(record) == {
        "time": "2026-11-28T07:00:00.250+00:00",
        "level": "info",
        "stage": "delta",
        "code": "sink-assigned",
        "logger": "sinks.consumer",
        "message": "delta: reads 4 partitions of 2 topics",
    }


def test_a_traceback_stays_in_its_line_and_a_library_has_one_code() -> None:
    try:
        raise ValueError("deep\ninside")
    except ValueError:
        record = logging.LogRecord("aiohttp.server", logging.ERROR, "", 0, "Error\nhandling", (), sys.exc_info())
    text = JsonFormatter("ui").format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert line["code"] == "library" and "ValueError: deep\ninside" in line["traceback"]
    assert line_of(_record("sinks.consumer", "%s: offsets not committed", logging.DEBUG))["code"] == "detail"


def test_a_line_of_text_names_its_zone() -> None:
    text = TextFormatter(FORMAT).format(_record("runtime.kafka", "Kafka is back", logging.INFO))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d INFO    runtime.kafka: Kafka is back", text)


# -- files


def test_a_supervised_process_rotates_its_log_and_what_it_prints_follows(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "delta.log"
    log.parent.mkdir()
    script = (
        "import logging, os, subprocess, sys\n"
        "from runtime.log import LogOptions, configure_logging\n"
        "configure_logging(LogOptions('info', 'json', file_bytes=4000, files=2))\n"
        "for n in range(300):\n"
        "    logging.getLogger('sinks.consumer').info('Kafka is back')\n"
        "sys.stderr.write('printed at the end\\n')\n"
        "subprocess.run(['echo', 'by a child'])\n"
    )
    environment = {**os.environ, LOG_FILE: str(log), STAGE_NAME: "delta-7"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in log.parent.iterdir()) == ["delta.log", "delta.log.1", "delta.log.2"]
    assert all(path.stat().st_size < 4100 for path in log.parent.iterdir())
    last = log.read_text().splitlines()
    assert last[-2:] == ["printed at the end", "by a child"]
    assert {(json.loads(line)["stage"], json.loads(line)["code"]) for line in last[:-2]} <= {("delta-7", "kafka-back")}


def test_the_supervisor_writes_its_own_log(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = root.handlers[:]
    options = LogOptions("info", "json", file_bytes=2000, files=1)
    with logging_to(Console(file=StringIO()), tmp_path / "logs", options):
        for _ in range(50):
            logging.getLogger("fleetlake.local.supervisor").error("%s is not live (%s): killing it", "delta", "frozen")
    assert root.handlers == before
    (line, *_) = (tmp_path / "logs" / "supervisor.log").read_text().splitlines()
    assert json.loads(line)["stage"] == "supervisor" and json.loads(line)["code"] == "supervisor-not-live"
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"supervisor.log", "supervisor.log.1"}
