"""Deleting what a table no longer needs: replaced files, files of killed writers, old log entries."""

from __future__ import annotations

from contextlib import suppress

from deltalake import DeltaTable

from sinks.delta.durability import sync_checkpoint


def vacuum_table(delta: DeltaTable, retention_hours: float, dry_run: bool = False) -> list[str]:
    """Delete files that no version of the last `retention_hours` names, and return their paths.

    Files of killed writers, which no version ever named, are deleted when they are that old. `dry_run` deletes nothing.
    """
    deleted: list[str] = delta.vacuum(
        int(retention_hours), dry_run=dry_run, enforce_retention_duration=False, full=True
    )
    return deleted


def clean_log(delta: DeltaTable) -> None:
    """Delete log entries that are past the table's log retention.

    deltalake would do it after every commit, which our tables switch off (`LOG_CLEANUP`). When two processes clean up
    at once, one fails although its commit is done (1.6.6). The next round deletes what such a failure leaves. deltalake
    also does not wait until the checkpoint that replaces the entries is on the disk.
    """
    delta.create_checkpoint()
    sync_checkpoint(delta)
    with suppress(FileNotFoundError):
        delta.cleanup_metadata()
