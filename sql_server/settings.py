"""Section `[sql]` of the configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class SqlSettings(BaseModel):
    """The tables over PostgreSQL's protocol, for Grafana, Metabase, Superset, psql and JDBC."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(default=False, description="Whether `fleetlake up` serves SQL.")
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. Any other than a loopback address needs a certificate, or allow_plaintext.",
    )
    port: int = Field(default=5439, ge=0, le=65535, description="Port of the SQL server; 0 picks a free port.")
    tls_certificate: Path | None = Field(
        default=None, description="Certificate chain (PEM). With it, clients on other hosts have to use TLS."
    )
    tls_key: Path | None = Field(default=None, description="Private key of the certificate (PEM).")
    allow_plaintext: bool = Field(
        default=False,
        description="Whether clients on other hosts may connect without TLS. Their keys can then be read on the "
        "network: for networks between containers, and behind a proxy that ends TLS.",
    )
    sign_in: bool = Field(
        default=True,
        description="Whether clients need a key of the alarm service as password. Without it, whoever reaches the port "
        "may read everything; this is refused unless `host` is a loopback address.",
    )
    max_connections: int = Field(default=100, ge=1, le=10_000, description="Clients at a time.")
    processes: int = Field(default=4, ge=1, le=64, description="Queries that run at a time, each in a process.")
    query_seconds: float = Field(default=30, gt=0, le=3600, description="Time limit of a query.")
    query_rows: int = Field(default=1_000_000, ge=1, description="A query that gives more rows than this fails.")
    query_megabytes: int = Field(
        default=512, ge=64, description="Memory of a query, and disk space for what does not fit."
    )
