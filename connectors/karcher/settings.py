"""Section `[karcher]` of the configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

_HOSTS = {
    "production": ("https://auth.fds.kaercher.com", "https://api.fds.kaercher.com", "wss://websocket.fds.kaercher.com"),
    "staging": (
        "https://auth.stage.fds.kaercher.com",
        "https://api.stage.fds.kaercher.com",
        "wss://websocket.stage.fds.kaercher.com",
    ),
}


class KarcherSettings(BaseModel):
    """Kärcher External IoT API. Hosts from karcher.txt, «authenticate» and «Connection URL»; paths marked *assumed*
    are not in the document.
    """

    model_config = ConfigDict(extra="forbid")

    environment: Literal["production", "staging"] = Field(
        default="production", description="Which of Kärcher's clouds; the staging REST host is assumed."
    )
    token_url: str = Field(default="", description="OAuth2 token endpoint; empty: the environment's.")
    api_url: str = Field(default="", description="Base URL of the REST API; empty: the environment's.")
    socket_url: str = Field(default="", description="Base URL of the WebSocket; empty: the environment's.")
    client_id: str = Field(default="", description="OAuth2 client id, from your Kärcher representative.")
    client_secret: SecretStr = Field(default=SecretStr(""), description="OAuth2 client secret.")
    scope: str = Field(
        default="",
        description="OAuth2 scope to ask for; empty: all the client is entitled to. Sockets need "
        "external-api/websocket:connect.",
    )

    specifications_path: str = "/machines/specifications"
    statuses_path: str = Field(default="/machines/statuses", description="Assumed.")
    notifications_path: str = Field(default="/machines/notifications", description="Assumed.")
    reports_path: str = Field(default="/machines/cleaning-reports", description="Assumed.")
    executions_path: str = Field(
        default="/machines/{material}/{serial}/command-executions", description="A machine's history of commands."
    )
    execution_path: str = Field(
        default="/machines/command-execution/{execution}", description="Details of one command's execution."
    )

    robotic_materials: list[str] = Field(
        default=["1.533-", "1.454-50"],
        description="Material numbers, or their beginnings, of machines with a WebSocket (KIRA, CV50).",
    )
    registry_seconds: float = Field(default=300, gt=0, description="Time between two readings of the registry.")
    status_seconds: float = Field(default=60, gt=0, description="Time between two readings of all statuses.")
    history_seconds: float = Field(
        default=300, gt=0, description="Time between two readings of cleaning reports and notifications."
    )
    first_history_days: float = Field(
        default=7,
        ge=0,
        description="How far back reports, notifications and commands are read the first time, and once a day.",
    )
    commands_seconds: float = Field(
        default=900,
        ge=0,
        description="Time between two readings of all histories of commands, a request a machine; 0 reads none.",
    )
    messages_per_second: float = Field(
        default=100, gt=0, description="What a machine's WebSocket tells beyond this is left out and counted."
    )
    requests_per_second: int = Field(default=5, ge=1, description="Documented limit of each REST endpoint.")
    token_requests_per_10_minutes: int = Field(default=10, ge=1, description="Documented limit of the token endpoint.")
    request_timeout_seconds: float = Field(default=20, gt=0)
    concurrent_handshakes: int = Field(default=20, ge=1, description="WebSockets that are opened at the same time.")

    @property
    def urls(self) -> tuple[str, str, str]:
        """Token endpoint, REST base, WebSocket base, without a slash at the end."""
        auth, api, socket = _HOSTS[self.environment]
        return (
            (self.token_url or f"{auth}/oauth2/token").rstrip("/"),
            (self.api_url or f"{api}/external/v1").rstrip("/"),
            (self.socket_url or socket).rstrip("/"),
        )

    def is_robotic(self, material_number: str) -> bool:
        """Whether a machine of this material number has a WebSocket (karcher.txt, «device families»)."""
        return any(material_number.startswith(beginning) for beginning in self.robotic_materials)
