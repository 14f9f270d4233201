"""Commits on exactly one snapshot: tried again on a newer one, given up when others never pause."""

from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from sinks.delta.erasure import device_digest, erased_devices, remember_erased
from sinks.delta.log_reader import live_files
from sinks.delta.maintenance import commits
from sinks.delta.maintenance.commits import Contended, commit_on_newest, replace_files, without_rebase
from tests.support.lake import count, filled


def another_row(table: DeltaTable) -> None:
    write_deltalake(table.table_uri, table.to_pyarrow_table().slice(0, 1), mode="append")


def test_a_refused_commit_is_tried_again_on_the_newest_snapshot(tmp_path: Path) -> None:
    table = filled(tmp_path, commits=1).open("readings")
    seen: list[int] = []

    def commit() -> bool:
        seen.append(table.version())
        if len(seen) == 1:
            another_row(table)
        table.alter.set_table_properties(
            {"x": "y"}, raise_if_not_exists=False, commit_properties=without_rebase({"by": "test"})
        )
        return True

    before = table.version()
    assert commit_on_newest(table, commit)
    assert seen == [before, before + 1]
    assert table.version() == before + 2, "the table shows the commit"


def test_a_commit_that_never_succeeds_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "PAUSE_SECONDS", 0)
    table = filled(tmp_path, commits=1).open("readings")
    calls = 0

    def commit() -> bool:
        nonlocal calls
        calls += 1
        raise CommitFailedError("another was quicker")

    with pytest.raises(Contended, match=f"others committed {commits.ATTEMPTS} times"):
        commit_on_newest(table, commit)
    assert calls == commits.ATTEMPTS


def test_files_that_are_removed_already_are_not_removed_twice(tmp_path: Path) -> None:
    table = filled(tmp_path, commits=2).open("readings")
    first, second = live_files(table)
    assert replace_files(table, [first], [], "expire", data_change=True)
    version = table.version()
    assert not replace_files(table, [first, second], [], "expire", data_change=True)
    assert table.version() == version and count(tmp_path, "readings") == 14


def test_erased_devices_are_remembered_once_and_by_digest(tmp_path: Path) -> None:
    table = filled(tmp_path, commits=1).open("readings")
    assert erased_devices(table) == set()
    for device in ("karcher:1", "karcher:2", "karcher:1"):
        remember_erased(table, device)
    assert erased_devices(table) == {device_digest(b"karcher:1"), device_digest(b"karcher:2")}
    assert "karcher:1" not in str(table.metadata().configuration)
