"""Section `[ui]` of the configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class UiSettings(BaseModel):
    """The live page: the fleet, its alarms and the pipeline in a browser."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(default=True, description="Whether `fleetlake up` runs the live page.")
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. If it is not a loopback address, set certificate_file or put a TLS proxy in "
        "front.",
    )
    port: int = Field(default=8094, ge=0, le=65535, description="Port of the live page; 0 picks a free port.")
    certificate_file: Path | None = Field(
        default=None,
        description="Certificate in PEM: serve HTTPS. It is read again when it changes. Default: HTTP, for a TLS proxy "
        "in front.",
    )
    key_file: Path | None = Field(
        default=None, description="Key of the certificate. Default: it is in the certificate's file."
    )
    public_url: str = Field(
        default="",
        description="Address under which browsers reach the page through a proxy, such as https://fleet.example.com. "
        "Cookies are then sent over TLS only if it begins with https.",
    )
    sign_in: bool = Field(
        default=True,
        description="Whether people sign in with a key of the alarm service. Without it, whoever reaches the page may "
        "read everything and act on alarms; this is refused unless `host` is a loopback address.",
    )
    session_hours: float = Field(default=12, gt=0, le=24 * 30, description="How long a sign-in lasts.")
    online_seconds: float = Field(
        default=900, gt=0, description="A device counts as online for this long after it was last heard."
    )
    action_seconds: float = Field(
        default=5, gt=0, le=60, description="How long an answer waits for the alarm engine to carry out an action."
    )
    query_seconds: float = Field(default=20, gt=0, le=600, description="Time limit of a query on the page «Ask».")
    query_rows: int = Field(
        default=5000, ge=1, le=100_000, description="A query on the page «Ask» gives this many rows."
    )
    query_megabytes: int = Field(
        default=512, ge=64, description="Memory of a query on the page «Ask», and disk space for what does not fit."
    )
    tile_url: str = Field(
        default="",
        description="Map tiles, such as https://tile.example.com/{z}/{x}/{y}.png. Empty: the map shows no background, "
        "and no third party learns where your devices are.",
    )
    tile_attribution: str = Field(default="", description="The attribution that the provider of the tiles asks for.")

    def url(self, port: int) -> str:
        """The address of the page in a browser on this machine."""
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(
            self.host, f"[{self.host}]" if ":" in self.host else self.host
        )
        return f"{'https' if self.certificate_file else 'http'}://{shown}:{port}/"
