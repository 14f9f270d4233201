"""Section `[karcher]` of the configuration."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, SecretStr

_HOSTS = {
    "production": ("https://auth.fds.kaercher.com", "https://api.fds.kaercher.com", "wss://websocket.fds.kaercher.com"),
    "staging": (
        "https://auth.stage.fds.kaercher.com",
        "https://api.stage.fds.kaercher.com",
        "wss://websocket.stage.fds.kaercher.com",
    ),
}


class Urls(NamedTuple):
    """The URLs of an account, without a slash at the end."""

    token: str
    api: str
    socket: str


class KarcherSettings(BaseModel):
    """Kärcher External IoT API. The hosts are those of Kärcher's API document, «authenticate» and «Connection URL».
    Paths described as assumed are not in the document.
    """

    model_config = ConfigDict(extra="forbid")

    environment: Literal["production", "staging"] = Field(
        default="production", description="Which of Kärcher's two clouds to read. The staging REST host is assumed."
    )
    token_url: str = Field(default="", description="OAuth2 token endpoint. Empty: the one of the environment.")
    api_url: str = Field(default="", description="Base URL of the REST API. Empty: the one of the environment.")
    socket_url: str = Field(default="", description="Base URL of the WebSocket. Empty: the one of the environment.")
    client_id: str = Field(default="", description="OAuth2 client id. You get it from your Kärcher representative.")
    client_secret: SecretStr = Field(
        default=SecretStr(""), description="OAuth2 client secret. You get it from your Kärcher representative."
    )
    scope: str = Field(
        default="",
        description="OAuth2 scope to request. Empty: every scope that the client is entitled to. WebSockets need "
        "external-api/websocket:connect.",
    )

    specifications_path: str = Field(
        default="/machines/specifications", description="Path of the list of all machines, which is the registry."
    )
    statuses_path: str = Field(default="/machines/statuses", description="Path of the machines' statuses. Assumed.")
    notifications_path: str = Field(
        default="/machines/notifications", description="Path of the customer notifications. Assumed."
    )
    reports_path: str = Field(
        default="/machines/cleaning-reports", description="Path of the cleaning reports. Assumed."
    )
    executions_path: str = Field(
        default="/machines/{material}/{serial}/command-executions",
        description="Path of a machine's command history, with {material} and {serial}.",
    )
    execution_path: str = Field(
        default="/machines/command-execution/{execution}",
        description="Path of the details of one command, with {execution}.",
    )

    robotic_materials: list[str] = Field(
        default=["1.533-", "1.454-50"],
        description="Material numbers, or their beginnings, of the machines that have a WebSocket (KIRA, CV50).",
    )
    registry_seconds: float = Field(
        default=300,
        gt=0,
        description="Seconds between two readings of the list of machines. A new machine appears after this time.",
    )
    status_seconds: float = Field(
        default=60, gt=0, description="Seconds between two readings of the statuses of all machines."
    )
    history_seconds: float = Field(
        default=300, gt=0, description="Seconds between two readings of the cleaning reports and notifications."
    )
    first_history_days: float = Field(
        default=7,
        ge=0,
        description="Days that reports, notifications and commands are read back at the first start, and once per day "
        "for entries that were filed late.",
    )
    commands_seconds: float = Field(
        default=900,
        ge=0,
        description="Seconds between two readings of the command histories, which cost one request per machine. "
        "0: none is read.",
    )
    messages_per_second: float = Field(
        default=100,
        gt=0,
        description="Messages per second that are taken from one machine's WebSocket, after a burst of ten "
        "seconds' worth. The rest is left out and counted.",
    )
    requests_per_second: int = Field(
        default=5, ge=1, description="Requests per second to each REST endpoint. 5 is Kärcher's documented limit."
    )
    token_requests_per_10_minutes: int = Field(
        default=10, ge=1, description="Requests for a token in 10 minutes. 10 is Kärcher's documented limit."
    )
    request_timeout_seconds: float = Field(
        default=20, gt=0, description="Seconds after which a REST request counts as failed."
    )
    concurrent_handshakes: int = Field(
        default=20, ge=1, description="WebSockets that are opened at the same time, at a start or after an outage."
    )

    @property
    def urls(self) -> Urls:
        """Where the account is, as configured or as the environment has it."""
        auth, api, socket = _HOSTS[self.environment]
        return Urls(
            (self.token_url or f"{auth}/oauth2/token").rstrip("/"),
            (self.api_url or f"{api}/external/v1").rstrip("/"),
            (self.socket_url or socket).rstrip("/"),
        )

    def is_robotic(self, material_number: str) -> bool:
        """Whether a machine of this material number has a WebSocket (Kärcher's API document, «device families»)."""
        return any(material_number.startswith(beginning) for beginning in self.robotic_materials)
