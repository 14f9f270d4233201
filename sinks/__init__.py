"""The sinks: the Delta lake, and `fleet.duckdb` that is published from it."""
