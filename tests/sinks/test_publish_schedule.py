"""When `fleet.duckdb` is published, and how a snapshot is divided: without a lake."""

from __future__ import annotations

from sinks.delta.log_reader import DataFile
from sinks.delta.tables import PARTITION_DATE
from sinks.duckdb.sink import PublishSchedule
from sinks.duckdb.working import portions


class Database:
    """Stands in for the published database: notes how often it publishes."""

    def __init__(self) -> None:
        self.news: list[bool] = []
        self.published = 0

    def catch_up(self) -> bool:
        return self.news.pop(0) if self.news else False

    def publish(self) -> None:
        self.published += 1


def schedule(seconds: float) -> tuple[PublishSchedule, Database]:
    database = Database()
    return PublishSchedule(database, seconds), database  # type: ignore[arg-type]


def test_without_news_nothing_is_published_again() -> None:
    made, database = schedule(0)
    made.publish()
    made.step()
    made.finish()
    assert database.published == 1


def test_news_are_published_once_when_the_interval_has_passed() -> None:
    made, database = schedule(0)
    made.publish()
    database.news = [True]
    made.step()
    made.step()
    assert database.published == 2


def test_news_within_the_interval_wait_and_are_published_at_the_end() -> None:
    made, database = schedule(3600)
    made.publish()
    database.news = [True, False]
    made.step()
    assert database.published == 1
    made.finish()
    assert database.published == 2


def test_what_comes_last_is_published_at_the_end() -> None:
    made, database = schedule(3600)
    made.publish()
    database.news = [True]
    made.finish()
    assert database.published == 2


def file(day: str, rows: int) -> DataFile:
    return DataFile(f"{day}-{rows}", {PARTITION_DATE: day}, rows, 1, ())


def test_portions_hold_the_newest_days_first_and_no_more_rows_than_allowed() -> None:
    old, middle, new = file("2026-11-01", 5), file("2026-11-02", 5), file("2026-11-03", 5)
    assert list(portions([old, new, middle], 10)) == [[new, middle], [old]]
    assert list(portions([old, new, middle], 15)) == [[new, middle, old]]


def test_a_file_larger_than_a_portion_is_a_portion_of_its_own() -> None:
    small, large = file("2026-11-02", 1), file("2026-11-01", 99)
    assert list(portions([large, small], 10)) == [[small], [large]]


def test_no_files_are_one_empty_portion() -> None:
    assert list(portions([], 10)) == [[]]
