"""`fleet.duckdb`: made from the lake's versions and published."""
