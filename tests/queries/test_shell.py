"""The shell of `fleetlake sql`: keys go in through a terminal's pipe, real queries run."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from fleetlake.cli.shell import Shell, Words, complete, run_shell
from fleetlake.session import Session
from schemas.topics import READINGS
from sinks.duckdb.published import PublishedDatabase
from sinks.settings import DuckdbSettings
from tests.support.lake import Writing
from tests.support.paths import ROOT
from tests.support.samples import NOON, observation


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def typed(data: Path, keys: str) -> None:
    """Run the shell on these keys, as if typed."""
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        pipe.send_text(keys)
        run_shell(data)


def test_queries_of_several_lines_commands_and_errors(
    fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(
        fleet,
        ".format csv\r"
        "SELECT 6 *\r7 AS answer;\r"  # Enter before the semicolon begins another line
        "SELECT nope FROM latest;\r"
        "CREATE TEMP TABLE mine AS SELECT 'kept' AS word;\r"
        "FROM mine;\r"
        ".wrong\r"
        ".limit 1\r"
        "FROM range(5);\r"
        ".quit\r",
    )
    out, err = capsys.readouterr()
    assert "answer\n42\n" in out and "word\nkept\n" in out and "range\n0\n" in out
    assert 'Referenced column "nope"' in err and ".wrong: no such command" in err and "the first 1 rows" in err
    history = (tmp_path / "state" / "fleetlake" / "sql_history").read_text()
    assert "+SELECT 6 *\n+7 AS answer;" in history


def test_it_ends_with_the_input(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed(fleet, ".tables\r.columns fleet_health\r\x04")
    out = capsys.readouterr().out
    assert "device_uptime(since, until, silence)" in out and "alarm_mttr" in out
    assert "battery_level" in out and "Latest battery.level, %." in out


def test_several_queries_are_answered_with_rows_and_time(
    fleet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (
        "SELECT 1 AS a; SELECT 2 AS b WHERE false;",
        ".timer off",
        "SELECT 3 AS c;",
        ".mode csv",
        f".output {tmp_path}/x.csv",
        "SELECT 4 AS d; SELECT 5 AS e;",
        ".output",
        "SELECT 6 AS f;",
        ".output nowhere/x",
        ".timer maybe",
        ".quit",
    )
    typed(fleet, "".join(f"{line}\r" for line in lines))
    out, err = capsys.readouterr()
    assert re.search(r"│ 1 │\n.*\n1 row in \d\.\d{3} s\n", out)
    assert re.search(r"no rows *\n0 rows in \d\.\d{3} s\n", out)
    assert re.search(r"│ 3 │\n.*\n1 row\n", out)
    assert (tmp_path / "x.csv").read_text() == "d\n4\ne\n5\n"
    assert out.endswith("f\n6\n")
    assert "no folder nowhere" in err and ".timer takes on or off" in err


def test_tables_are_short_and_macros_without_parameters_are_there(
    fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(fleet, ".mode csv\r.tables\r.quit\r")
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()[1:]))
    assert {"readings", "latest", "fleet_now()"} <= {row["name"] for row in rows}
    assert all(0 < len(row["what it holds"]) <= 200 for row in rows)


def test_ours_come_first_in_completion(fleet: Path) -> None:
    with Session(fleet) as session:
        words = list(session.words())
    ours = ("readings", "fleet_health", "fleet_now(", "battery_level")
    assert max(words.index(word) for word in ours) < words.index("SELECT")


def test_tab_completes_what_there_is(fleet: Path) -> None:
    with Session(fleet) as session:
        words = Words({**session.words(), **dict.fromkeys(Shell(session).commands, "")})

        def completions(text: str) -> set[str]:
            return {completion.text for completion in words.get_completions(Document(text), CompleteEvent())}

        assert {"battery_history(", "battery_level"} <= completions("SELECT * FROM batt")
        assert "fleet_health" in completions("FROM fleet_h")
        assert "SELECT" in completions("sel")
        assert ".tables" in completions(".ta")


def test_enter_runs_what_is_complete() -> None:
    assert [complete(text) for text in ("SELECT 1;", ".help", " ", "exit", "SELECT 1", "SELECT ';' ,")] == [
        True, True, True, True, False, False,
    ]  # fmt: skip


def test_each_query_sees_what_was_published_last_and_keeps_what_is_temporary(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "work").mkdir(parents=True)
    writing = Writing(data)
    with closing(PublishedDatabase(data, DuckdbSettings())) as sink:
        sink.publish()
        with Session(data) as session:

            def count() -> list[tuple[int, ...]]:
                answer = session.ask("SELECT count(*), (SELECT count(*) FROM mine) FROM readings")
                assert answer
                return list(answer.rows())

            session.ask("CREATE TEMP TABLE mine AS FROM range(3)")
            assert count() == [(0, 3)]
            session.ask("FROM range(100000)")  # rows that nobody fetches
            for number in (1, 2):
                writing.write(READINGS, observation(number, at=NOON + timedelta(minutes=number)))
                sink.publish()
                assert count() == [(2 * number, 3)]
            session.ask("BEGIN")
            assert count() == [(4, 3)]
            writing.write(READINGS, observation(3))
            sink.publish()
            assert count() == [(4, 3)]  # a transaction sees one state
            session.ask("COMMIT")
            assert count() == [(6, 3)]


INTERRUPTED = """
import os, signal, sys, threading
from pathlib import Path
from fleetlake.cli.shell import Shell
from fleetlake.session import Session
with Session(Path(sys.argv[1])) as session:
    shell = Shell(session)
    threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
    shell.run("SELECT count(*) FROM range(100000000) a(x), range(100000000) b(y) WHERE x * 3 = y % 7 + x % 3")
    shell.run("SELECT 'still' || ' there'")
"""


def test_ctrl_c_ends_the_query_and_not_the_shell(fleet: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(fleet)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "still there" in done.stdout and done.stderr == "interrupted\n"
