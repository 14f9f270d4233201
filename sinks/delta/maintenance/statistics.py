"""Statistics of a Parquet file as the Delta log states them (Delta protocol, «Per-file Statistics»). Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pyarrow.parquet as pq

TEXT_PREFIX = 64
"""Characters of a text that a bound holds."""


def statistics(metadata: pq.FileMetaData) -> dict[str, Any]:
    """Return the number of rows, and the bounds and nulls of each column, from a file's footer.

    A column has no bounds if a row group with values lacks them, or if it is binary. One without statistics is listed
    as without nulls, because the log tells by this list which columns a file has.
    """
    nulls: dict[str, int] = {}
    smallest: dict[str, Any] = {}
    largest: dict[str, Any] = {}
    unbounded: set[str] = set()
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            name, stats = column.path_in_schema, column.statistics
            nulls[name] = nulls.get(name, 0) + (stats.null_count if stats else 0)
            if stats is None or not stats.has_min_max:
                if stats is None or column.num_values != stats.null_count:
                    unbounded.add(name)
                continue
            smallest[name] = min(smallest.get(name, stats.min), stats.min)
            largest[name] = max(largest.get(name, stats.max), stats.max)
    bounded = [name for name in smallest if name not in unbounded and not isinstance(smallest[name], bytes)]
    return {
        "numRecords": metadata.num_rows,
        "minValues": {name: lower_bound(smallest[name]) for name in bounded},
        "maxValues": {name: upper_bound(largest[name]) for name in bounded},
        "nullCount": nulls,
    }


def lower_bound(value: Any) -> Any:
    """Return a value that is not above this one, times in milliseconds and texts cut, as deltalake writes them."""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="milliseconds")
    return value[:TEXT_PREFIX] if isinstance(value, str) else value


def upper_bound(value: Any) -> Any:
    """Return a value that is not below this one, times in milliseconds and texts cut."""
    if isinstance(value, datetime):
        return (value + timedelta(microseconds=-value.microsecond % 1000)).isoformat(sep=" ", timespec="milliseconds")
    if isinstance(value, str) and len(value) > TEXT_PREFIX:
        return value[:TEXT_PREFIX] + "\U0010ffff"
    return value
