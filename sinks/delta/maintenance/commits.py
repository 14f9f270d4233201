"""Commits that are tried against one exact snapshot and never rebased.

deltalake (1.6.6) does not hold removals without data change against each other: two of its own compactions at once
double every row. A commit here is refused as soon as anything else was committed, and is then tried on the newer
snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from runtime.retry import retrying_in_thread
from sinks.delta.durability import sync_commits
from sinks.delta.log_reader import MARK
from sinks.delta.maintenance.compaction import LiveFile

ATTEMPTS = 40
PAUSE_SECONDS = 0.05


class Contended(Exception):
    """Others committed so often that our commit never succeeded; the next maintenance round tries again."""


def without_rebase(metadata: dict[str, Any]) -> CommitProperties:
    """Return properties of a commit that deltalake must not rebase: a rebased removal could be done twice."""
    return CommitProperties(custom_metadata=metadata, max_commit_retries=0)


def commit_on_newest(delta: DeltaTable, commit: Callable[[], bool]) -> bool:
    """Call `commit` until no other writer is quicker, each time on the newest snapshot; return what it returns.

    A commit that returns True is synced to the disk. Raise Contended if others are quicker `ATTEMPTS` times.
    """

    def attempt() -> bool:
        before = delta.version()
        done = commit()
        if done:
            delta.update_incremental()
            sync_commits(delta, before)
        return done

    attempts = retrying_in_thread(
        CommitFailedError, pause=PAUSE_SECONDS, attempts=ATTEMPTS, before_next=delta.update_incremental
    )
    try:
        return attempts(attempt)
    except CommitFailedError as error:
        raise Contended(f"{delta.table_uri}: others committed {ATTEMPTS} times in between") from error


def replace_files(
    delta: DeltaTable, remove: Sequence[LiveFile], add: Sequence[AddAction], why: str, data_change: bool
) -> bool:
    """Commit the removal of files and the addition of others.

    Return False, and change nothing, if another commit has already removed one of the files. Raise Contended.
    """
    paths = {file.path for file in remove}

    def commit() -> bool:
        if not paths <= {unquote(path) for path in pa.table(delta.get_add_actions())["path"].to_pylist()}:
            return False
        at = int(time.time() * 1000)
        removals: list[AddAction | RemoveAction] = [
            RemoveAction(f.path, data_change, at, size=f.bytes, partition_values=dict(f.partition)) for f in remove
        ]
        delta.create_write_transaction(
            [*add, *removals],
            mode="append",
            schema=delta.schema(),
            partition_by=list(delta.metadata().partition_columns),
            commit_properties=without_rebase({MARK: why}),
        )
        return True

    return commit_on_newest(delta, commit)
