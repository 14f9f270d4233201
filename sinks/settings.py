"""Settings of the sinks: sections `[sink.delta]` and `[sink.duckdb]` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

TableName = Literal["readings", "events", "alarm_events", "devices", "dead_letters", "raw"]


class DeltaSettings(BaseModel):
    """Section `[sink.delta]`: when rows are written to the lake, and how its tables are maintained."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(
        default="",
        pattern=r"^$|^(s3|s3a|az|adl|abfs|abfss|gs|file)://.+",
        description="URL of the lake if it is not in the data folder: s3://bucket/lake, az://container/lake, gs://bucket/lake.",
    )
    storage_options: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="deltalake's options for the object store: aws_access_key_id, aws_endpoint_url. Options "
        "that are missing here are taken from the environment.",
    )
    sync: bool = Field(
        default=True,
        description="Whether each commit to a local disk is synced before the next one, against power cuts.",
    )
    raw: bool = Field(
        default=False,
        description="Whether table `raw` keeps raw records, to normalise them again when Kafka no longer has them.",
    )
    flush_seconds: float = Field(default=5, gt=0, description="Longest time a record waits before it is written.")
    flush_records: int = Field(
        default=50_000, ge=1, description="Largest number of records buffered for a table before they are written."
    )
    flush_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=1024,
        description="Largest size in bytes (JSON) of the records buffered for a table before they are written.",
    )
    compression_level: int = Field(default=3, ge=1, le=22, description="Zstandard level of the Parquet files.")
    maintenance_seconds: float = Field(
        default=60,
        gt=0,
        description="How often a table's small files are merged and its old rows deleted, by one process per table.",
    )
    compact_files: int = Field(
        default=16,
        ge=2,
        description="Number of small files of a day (and vendor) that are merged. For a past day two are enough.",
    )
    vacuum_seconds: float = Field(default=3600, gt=0, description="How often files that no snapshot needs are deleted.")
    retention_hours: int = Field(
        default=24,
        ge=1,
        description="How long replaced files are kept: for running queries, and for older copies of fleet.duckdb.",
    )
    log_retention_hours: int = Field(default=48, ge=1, description="How far the lake's transaction log reaches back.")
    expire_days: dict[TableName, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="Number of days from receipt after which a table's rows are deleted: { readings = 400 }. "
        "Tables that are not named keep their rows.",
    )
    accept_new_topics: bool = Field(
        default=False,
        description="Whether to continue with topics that were deleted and created again, from their start, keeping "
        "the rows. Otherwise the sink stops, because offsets of the old topic mean nothing in the new one.",
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
        default=5,
        gt=0,
        description="Shortest time between two publications of fleet.duckdb, which follow changes only.",
    )
    recent_days: float = Field(
        default=1, gt=0, description="How many days `recent_readings` reaches back from the newest reading."
    )
    recent_rows: int = Field(
        default=500_000, ge=1, description="Largest number of rows in `recent_readings`; the newest are kept."
    )
    minute_days: float = Field(
        default=1, gt=0, description="How many days `readings_1m` reaches back from the newest reading."
    )
    hour_days: float = Field(
        default=31, gt=0, description="How many days `readings_1h` reaches back from the newest reading."
    )
    rollup_rows: int = Field(
        default=500_000,
        ge=1,
        description="Largest number of rows in `readings_1m` and in `readings_1h`; the newest are kept.",
    )
    alarm_days: float = Field(
        default=90, gt=0, description="How many days resolved alarms stay in `alarms`; `alarm_events` keeps all."
    )
    memory_limit: str = Field(
        default="1GB", pattern=r"^\d+(\.\d+)?\s?[KMG]i?B$", description="How much memory DuckDB may use."
    )
