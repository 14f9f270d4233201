"""The published tables over PostgreSQL's wire protocol, read-only, for BI tools (docs/sql-server.md)."""
