"""One maintenance round of one table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sinks.delta.location import LakeLocation
from sinks.delta.log_reader import live_files
from sinks.delta.maintenance.commits import replace_files
from sinks.delta.maintenance.compaction import plan_expiry, plan_merges
from sinks.delta.maintenance.merging import merge_files
from sinks.delta.maintenance.vacuum import clean_log, vacuum_table
from sinks.settings import DeltaSettings


@dataclass(slots=True)
class Maintained:
    """What one round did to a table, in numbers of files."""

    merged: int = 0
    into: int = 0
    expired: int = 0
    deleted: int = 0


def maintain(location: LakeLocation, table: str, settings: DeltaSettings, vacuum: bool) -> Maintained:
    """Merge what is due, expire rows older than `expire_days`, and delete unneeded files if `vacuum` is set.

    This is safe beside writers, readers and other maintenance, and may be killed at any moment: a later vacuum deletes
    a file that no commit names. Raise deltalake's errors if the store fails, Contended if others never pause.
    """
    delta = location.open(table)
    done = Maintained()
    now = datetime.now(UTC)
    days = settings.expiry(table)
    if days and (old := plan_expiry(live_files(delta), now, days)):
        replace_files(delta, old, [], "expire", data_change=True)
        done.expired = len(old)
    for merge in plan_merges(live_files(delta), now, settings.compact_files):
        if merge_files(delta, location, merge, settings.compression_level):
            done.merged, done.into = done.merged + len(merge), done.into + 1
    if done.merged or done.expired:
        delta.create_checkpoint()
    if vacuum:
        done.deleted = len(vacuum_table(delta, settings.retention_hours))
        clean_log(delta)
    return done
