"""The alarm service's store: duplicates count once, and an interrupted batch leaves nothing. SQLite, PostgreSQL."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from alarm_service.settings import AlarmsSettings
from alarm_service.store.alarms import AlarmFilter, StaleBatch
from alarm_service.store.database import AlarmDatabase, open_alarm_database
from alarm_service.topic_ingest import TopicIngest
from fleetlake.ops.erase import erase_alarms
from runtime.errors import StageError
from schemas.rules import parse_rule
from schemas.topics import RULES
from schemas.words import KeyRole
from tests.alarm_service.events import NOW, event
from tests.support.records import ConsumedRecord

ALL = AlarmFilter()


@pytest.fixture
def database(database_url: str | None, tmp_path: Path) -> Iterator[AlarmDatabase]:
    with closing(open_alarm_database(database_url, tmp_path / "alarms.db")) as opened:
        yield opened


def stored(database: AlarmDatabase) -> dict[str, list[int]]:
    alarms, total = database.alarms.page(ALL, 1, 1000)
    assert total == len(alarms)
    return {each.alarm.alarm_id: [e.sequence for e in database.alarms.timeline(each.alarm.alarm_id)] for each in alarms}


def test_a_batch_is_stored_once_with_its_offset(database: AlarmDatabase) -> None:
    first = [event("x", 1), event("x", 2, "acknowledged", note="ä\0"), event("y", 1, minutes=5)]
    database.alarms.add_events(0, None, first, 10)
    assert database.alarms.offsets() == {0: 10}
    for expected in (None, 9, 11):
        with pytest.raises(StaleBatch):
            database.alarms.add_events(0, expected, [event("z", 1)], 20)
    assert stored(database) == {"y": [1], "x": [1, 2]}, "nothing of a stale batch is there; latest first"
    alarm = database.alarms.get("x")
    assert alarm is not None and alarm.alarm == first[1].alarm and alarm.created_at == first[0].created_at
    assert [e.note for e in database.alarms.timeline("x")] == [None, "ä\0"]


def test_events_of_a_replay_change_nothing(database: AlarmDatabase) -> None:
    story = [event("x", 1), event("x", 2, "acknowledged"), event("x", 3, "resolved")]
    database.alarms.add_events(0, None, story[:2], 2)
    database.alarms.add_events(0, 2, [*story, *story], 8)
    assert stored(database) == {"x": [1, 2, 3]}
    alarm = database.alarms.get("x")
    assert alarm is not None and alarm.alarm.status == "resolved"


def test_of_two_that_store_the_same_batch_one_does(database: AlarmDatabase) -> None:
    database.alarms.add_events(0, None, [event("x", 1)], 1)
    outcomes: list[str] = []

    def write() -> None:
        try:
            database.alarms.add_events(0, 1, [event(f"y{n}", 1) for n in range(50)], 51)
            outcomes.append("stored")
        except StaleBatch:
            outcomes.append("stale")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["stale", "stale", "stale", "stored"]
    assert len(stored(database)) == 51


def test_filters_pages_and_counts(database: AlarmDatabase) -> None:
    events = [event(f"a{n}", 1, minutes=n, device=f"ogmen:{n % 2}", severity="critical") for n in range(7)]
    events += [event("b", 1, "acknowledged", 20, rule="cold"), event("c", 1, "resolved", 30, rule="cold")]
    database.alarms.add_events(1, None, events, 9)

    def ids(page: int = 1, size: int = 50, **which: str) -> tuple[list[str], int]:
        alarms, total = database.alarms.page(AlarmFilter(**which), page, size)
        return [each.alarm.alarm_id for each in alarms], total

    assert ids(2, 3) == (["a5", "a4", "a3"], 9)
    assert ids(9, 3) == ([], 9)
    assert ids(device_id="ogmen:1") == (["a5", "a3", "a1"], 3)
    assert ids(rule_id="cold", status="resolved") == (["c"], 1)
    assert ids(severity="warning") == (["c", "b"], 2)
    assert ids(device_id="\0") == ([], 0)
    summary = database.alarms.summary()
    assert summary.by_status == {"active": 7, "acknowledged": 1, "resolved": 1}
    assert summary.by_severity == {"critical": 7, "major": 0, "minor": 0, "warning": 1, "info": 0}
    assert summary.open == 8


def test_only_the_latest_of_a_device_and_rule_is_the_latest(database: AlarmDatabase) -> None:
    database.alarms.add_events(
        0, None, [event("x", 1, "resolved"), event("y", 1, minutes=5), event("z", 1, rule="cold")], 3
    )
    latest = [name for name in "xyz" if (alarm := database.alarms.get(name)) and alarm.is_latest]
    assert latest == ["y", "z"]


def test_what_is_over_is_forgotten_and_what_is_open_is_not(database: AlarmDatabase) -> None:
    database.alarms.add_events(0, None, [event("x", 1, "resolved"), event("y", 1), event("z", 1, device="ogmen:9")], 3)
    assert database.alarms.forget_resolved(NOW) == 0
    assert database.alarms.forget_resolved(NOW + timedelta(seconds=1)) == 1
    assert stored(database) == {"y": [1], "z": [1]}
    assert database.alarms.erase("ogmen:9") == 1
    assert stored(database) == {"y": [1]} and database.alarms.timeline("z") == []


def rule_record(offset: int, name: str, value: float | None, partition: int = 0) -> ConsumedRecord:
    fields = {"id": name, "name": name, "rule_type": "threshold"}
    body = {**fields, "config": {"metric": "m", "operator": "gt", "value": value}}
    content = None if value is None else json.dumps(body).encode()
    return ConsumedRecord(RULES, offset, name.encode(), content, partition=partition)


def test_rules_follow_their_topic(database: AlarmDatabase) -> None:
    bad = ConsumedRecord(RULES, 2, b"bad", b'{"id": "bad"}')
    (problem,) = database.rules.replace({0: 3}, [rule_record(0, "a", 1), bad])
    assert problem.startswith("rule bad: rule_type: must be one of")
    assert [rule.id for rule in database.rules.all()] == ["a"]
    assert database.rules.apply([rule_record(3, "b", 1), rule_record(4, "a", 2), rule_record(5, "b", None)]) == []
    assert [(rule.id, rule.config["value"]) for rule in database.rules.all()] == [("a", 2)]
    database.rules.apply([rule_record(3, "b", 1), rule_record(0, "a", 1)])
    assert [(rule.id, rule.config["value"]) for rule in database.rules.all()] == [("a", 2)], (
        "older records change nothing"
    )
    assert database.rules.get("b") is None
    assert database.rules.get("a") == parse_rule(json.loads(rule_record(4, "a", 2).value or b""))


def test_a_rule_whose_deletion_left_no_trace_goes_at_the_next_start(database: AlarmDatabase) -> None:
    database.rules.replace({0: 5}, [rule_record(0, "a", 1), rule_record(1, "b", 1)])
    database.rules.apply([rule_record(7, "c", 1)])
    database.rules.replace({0: 7}, [rule_record(0, "a", 1)])
    assert [rule.id for rule in database.rules.all()] == ["a", "c"], (
        "c stands behind what was read: another service stored it"
    )


def test_a_key_opens_until_it_is_revoked(database: AlarmDatabase, tmp_path: Path) -> None:
    key, other = (
        database.keys.create(*each, NOW) for each in (("ops@example.com", KeyRole.ADMIN), ("wall", KeyRole.READ))
    )
    assert re.fullmatch(r"fleetlake_[0-9a-f]{8}_[0-9a-f]{32}", key)
    assert who(database, key) == ("ops@example.com", "admin")
    for wrong in (key[:-1], key + "0", key.replace("fleetlake_", ""), other[:19] + key[19:], "", "ä", "__", "a_\0_b"):
        assert who(database, wrong) is None, wrong
    assert database.keys.revoke(key.split("_")[1], NOW)
    assert not database.keys.revoke(key.split("_")[1], NOW)
    assert who(database, key) is None and who(database, other) == ("wall", "read")
    assert [(info.name, info.revoked_at) for info in database.keys.all()] in (
        [("ops@example.com", NOW), ("wall", None)],
        [("wall", None), ("ops@example.com", NOW)],
    )
    secret = other.rpartition("_")[2].encode()
    assert not any(secret in path.read_bytes() for path in tmp_path.iterdir()), "only the hash is kept"


def who(database: AlarmDatabase, key: str) -> tuple[str, str] | None:
    info = database.keys.find(key)
    return None if info is None else (info.name, info.role)


def test_keys_from_before_there_were_roles_may_do_what_they_could(database_url: str | None, tmp_path: Path) -> None:
    path = tmp_path / "alarms.db"
    with closing(open_alarm_database(database_url, path)) as database:
        key = database.keys.create("old", KeyRole.READ, NOW)
        with database.engine.begin() as tx:  # as the version before left it
            tx.execute(sa.text("ALTER TABLE api_keys DROP COLUMN role"))
            tx.execute(sa.text("UPDATE meta SET value = 1 WHERE name = 'schema'"))
    for _ in range(2):  # brought up to date by the first, left alone by the second
        with closing(open_alarm_database(database_url, path)) as database:
            assert who(database, key) == ("old", "admin")
            assert who(database, database.keys.create("new", KeyRole.READ, NOW)) == ("new", "read")


async def test_the_database_belongs_to_the_topic_that_it_was_filled_from(
    database_url: str | None, tmp_path: Path
) -> None:
    for _ in range(2):
        with closing(open_alarm_database(database_url, tmp_path / "alarms.db")) as database:
            ingest = TopicIngest({"bootstrap_servers": "127.0.0.1:1"}, database)
            await ingest.check_topic("first")
            with pytest.raises(StageError, match=r"created again \(id first, now second\). Use a new database"):
                await ingest.check_topic("second")


def test_a_database_of_another_version_or_out_of_reach_is_said(tmp_path: Path) -> None:
    open_alarm_database(None, tmp_path / "alarms.db").close()
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'alarms.db'}")
    with engine.begin() as tx:
        tx.execute(sa.text("UPDATE meta SET value = 99"))
    engine.dispose()
    with pytest.raises(StageError, match="schema 99"):
        open_alarm_database(None, tmp_path / "alarms.db")
    with pytest.raises(StageError) as away:
        open_alarm_database("postgresql+psycopg://me:secret@127.0.0.1:1/x", tmp_path / "no.db")
    assert "secret" not in str(away.value)


def test_erasing_a_device_takes_its_alarms_too(tmp_path: Path) -> None:
    assert erase_alarms(AlarmsSettings(), tmp_path, "ogmen:9") is None
    assert not list(tmp_path.iterdir()), "no database is made for it"
    with closing(open_alarm_database(None, tmp_path / "state" / "alarms.db")) as database:
        database.alarms.add_events(0, None, [event("x", 1), event("z", 1, device="ogmen:9")], 3)
    assert erase_alarms(AlarmsSettings(), tmp_path, "ogmen:9") == 1
    with closing(open_alarm_database(None, tmp_path / "state" / "alarms.db")) as database:
        assert stored(database) == {"x": [1]}
