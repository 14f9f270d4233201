"""What a plain DuckDB client in another process runs, that knows nothing of us but what docs/tables.md says."""

from __future__ import annotations

OPEN = """
import duckdb

def open_published(path):
    # DuckDB opens a path twice: a file that is published in between is opened once more
    try:
        return duckdb.connect(path, read_only=True)
    except duckdb.IOException:
        return duckdb.connect(path, read_only=True)
"""
"""Source of a function that opens `fleet.duckdb` while it is being published."""
