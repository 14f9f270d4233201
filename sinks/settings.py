"""Settings of the sinks: sections `[sink.delta]` and `[sink.duckdb]` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

TableName = Literal["readings", "events", "alarm_events", "devices", "dead_letters", "raw"]


class DeltaSettings(BaseModel):
    """Section `[sink.delta]`: when rows are written to the lake and how the lake is kept tidy."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(
        default="",
        pattern=r"^$|^(s3|s3a|az|adl|abfs|abfss|gs|file)://.+",
        description="Where the lake is, if not in the data folder: s3://bucket/lake, az://container/lake, gs://bucket/lake.",
    )
    storage_options: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="What the object store needs, in deltalake's words: aws_access_key_id, aws_endpoint_url…; "
        "what is not said comes from the environment.",
    )
    sync: bool = Field(
        default=True,
        description="On a local disk, sync every commit before the next one: a power cut cannot tear the lake.",
    )
    raw: bool = Field(
        default=False,
        description="Keep the raw records too, in table `raw`: they can be normalised anew when Kafka has let them go.",
    )
    flush_seconds: float = Field(default=5, gt=0, description="A record waits at most so long before it is written.")
    flush_records: int = Field(
        default=50_000, ge=1, description="So many buffered records of a table are written at once."
    )
    flush_bytes: int = Field(
        default=32 * 1024 * 1024, ge=1024, description="So many buffered bytes (JSON) of a table are written at once."
    )
    compression_level: int = Field(default=3, ge=1, le=22, description="Zstandard level of the Parquet files.")
    maintenance_seconds: float = Field(
        default=60,
        gt=0,
        description="How often small files are looked for and merged. One process does it for a table.",
    )
    compact_files: int = Field(
        default=16,
        ge=2,
        description="So many small files of a day (and vendor) are merged; of a day that is over, two.",
    )
    vacuum_seconds: float = Field(default=3600, gt=0, description="How often files that no snapshot needs are deleted.")
    retention_hours: int = Field(
        default=24,
        ge=1,
        description="Files replaced by a merge stay so long: a query, or a copy of fleet.duckdb, may be so old.",
    )
    log_retention_hours: int = Field(default=48, ge=1, description="The lake's transaction log reaches back so far.")
    expire_days: dict[TableName, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="Rows received more than so many days ago are deleted, by table: { readings = 400 }. None: kept.",
    )
    accept_new_topics: bool = Field(
        default=False,
        description="Go on with topics that were deleted and created again, from their start, keeping the rows. "
        "Without it the sink stops: offsets of the old topic mean nothing in the new one.",
    )

    def options(self) -> dict[str, str]:
        """Return the storage options as deltalake takes them."""
        return {name: value.get_secret_value() for name, value in self.storage_options.items()}

    def expiry(self, table: str) -> int | None:
        """Return after how many days a table's rows are deleted, or None if they are kept."""
        return next((days for name, days in self.expire_days.items() if name == table), None)


class DuckdbSettings(BaseModel):
    """Section `[sink.duckdb]`: what `fleet.duckdb` holds and how fresh it is."""

    model_config = ConfigDict(extra="forbid")

    publish_seconds: float = Field(
        default=5, gt=0, description="fleet.duckdb is published at most so often, if anything changed."
    )
    recent_days: float = Field(
        default=1, gt=0, description="`recent_readings` reaches back so many days from the newest reading,"
    )
    recent_rows: int = Field(default=500_000, ge=1, description="and holds at most so many rows, the newest.")
    minute_days: float = Field(
        default=1, gt=0, description="`readings_1m` reaches back so many days from the newest reading,"
    )
    hour_days: float = Field(default=31, gt=0, description="`readings_1h` so many,")
    rollup_rows: int = Field(default=500_000, ge=1, description="and each holds at most so many rows, the newest.")
    alarm_days: float = Field(
        default=90, gt=0, description="`alarms` forgets what was resolved longer ago; `alarm_events` does not."
    )
    memory_limit: str = Field(default="1GB", pattern=r"^\d+(\.\d+)?\s?[KMG]i?B$", description="Memory DuckDB may use.")
