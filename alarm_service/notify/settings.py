"""Section `[notify]` of the configuration: channels and policies, in the words of WAYSCloud's document.

The source is WAYSCloud's API document, «GET /v1/iot/notifications/channels» and the sections after it. A
channel's or policy's id is its name in the file: `[notify.channels.ops]` is the channel `ops`.
"""

from __future__ import annotations

import base64
import binascii
from abc import ABC, abstractmethod
from typing import Annotated, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

from schemas.records import AlarmEventType
from schemas.words import Severity

Key = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


def _http_url(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https URL")
    return url


def key_of(secret: str) -> bytes:
    """The key in a webhook's secret: after `whsec_` base64, as in Standard Webhooks, else the text's bytes.

    ValueError where that is not base64.
    """
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ValueError(f"what follows whsec_ must be base64: {error}") from error


def _signing(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and not key_of(secret.get_secret_value()):
        raise ValueError("must not be empty")
    return secret


HttpUrl = Annotated[SecretStr, AfterValidator(_http_url)]
"""A secret, since many services put their token into the path."""


class Receiver(NamedTuple):
    """Where a channel sends to: the setting that says so, and the host and port."""

    setting: str
    host: str
    port: int


class TargetConfig(BaseModel, ABC):
    """Settings of all channels: how long to wait, and whether the receiver may be on a private network."""

    model_config = ConfigDict(extra="forbid")

    allow_private: bool = Field(
        default=False,
        description="Also deliver to private, loopback and link-local addresses, which are refused otherwise.",
    )
    timeout_seconds: float = Field(default=10, gt=0, le=120, description="Longest time that one attempt may take.")

    @property
    @abstractmethod
    def receiver(self) -> Receiver:
        """Where the notifications go."""


class HttpTargetConfig(TargetConfig):
    """Settings of the channels that post to a URL."""

    url: HttpUrl

    @property
    def receiver(self) -> Receiver:
        """The URL's host and port. The URL may hold a token."""
        parts = urlsplit(self.url.get_secret_value())
        return Receiver("url", parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


class WebhookConfig(HttpTargetConfig):
    """A POST of the alarm event as JSON, signed if there is a secret."""

    secret: Annotated[SecretStr | None, AfterValidator(_signing)] = Field(
        default=None,
        description="Key that signs each request (HMAC-SHA256, Standard Webhooks): `whsec_` and base64, or text.",
    )
    bearer_token: SecretStr | None = Field(default=None, description="Sent as `Authorization: Bearer`.")


class EmailConfig(TargetConfig):
    """A mail by SMTP."""

    host: str = Field(min_length=1)
    port: int = Field(default=587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls",
        description="`tls` from the first byte (port 465), `starttls`, or `none` (for a local relay).",
    )
    username: str = ""
    password: SecretStr = SecretStr("")
    sender: str = Field(min_length=3, description="Address of the sender (From).")
    recipients: list[str] = Field(min_length=1)

    @property
    def receiver(self) -> Receiver:
        """The mail server."""
        return Receiver("host, port", self.host, self.port)


class SlackConfig(HttpTargetConfig):
    """A Slack incoming webhook."""


class TeamsConfig(HttpTargetConfig):
    """A Microsoft Teams workflow («when a webhook request is received»); gets an Adaptive Card."""


class SmsConfig(HttpTargetConfig):
    """A text message, by a POST to an SMS gateway."""

    recipients: list[str] = Field(min_length=1, description="Phone numbers in the form that the gateway expects.")
    sender: str = ""
    bearer_token: SecretStr | None = None
    to_field: str = Field(default="to", description="Name of the gateway's JSON field for the recipients (a list).")
    text_field: str = Field(default="text", description="Name of the gateway's JSON field for the text.")
    from_field: str = Field(default="from", description="Name of the gateway's JSON field for the sender.")
    max_chars: int = Field(default=160, ge=20, le=1600, description="Longest text; longer ones are cut.")


class AlertmanagerConfig(HttpTargetConfig):
    """A Prometheus Alertmanager (API v2)."""

    bearer_token: SecretStr | None = None
    labels: dict[str, str] = Field(default_factory=dict, description="Labels added to each alert.")
    resend_seconds: float = Field(
        default=60,
        ge=1,
        le=3600,
        description="How often open alarms are sent once more, since Alertmanager would forget them.",
    )


class _Channel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="", description="Shown to people; default: the channel's id.")
    is_enabled: bool = True


class WebhookChannel(_Channel):
    """`channel_type = "webhook"`."""

    channel_type: Literal["webhook"]
    config: WebhookConfig


class EmailChannel(_Channel):
    """`channel_type = "email"`."""

    channel_type: Literal["email"]
    config: EmailConfig


class SlackChannel(_Channel):
    """`channel_type = "slack"`."""

    channel_type: Literal["slack"]
    config: SlackConfig


class TeamsChannel(_Channel):
    """`channel_type = "teams"`."""

    channel_type: Literal["teams"]
    config: TeamsConfig


class SmsChannel(_Channel):
    """`channel_type = "sms"`."""

    channel_type: Literal["sms"]
    config: SmsConfig


class AlertmanagerChannel(_Channel):
    """`channel_type = "alertmanager"`."""

    channel_type: Literal["alertmanager"]
    config: AlertmanagerConfig


Channel = Annotated[
    WebhookChannel | EmailChannel | SlackChannel | TeamsChannel | SmsChannel | AlertmanagerChannel,
    Field(discriminator="channel_type"),
]
ScopeType = Literal["fleet", "device", "group", "profile", "vendor"]


class Policy(BaseModel):
    """Which alarm events are delivered over which channels (WAYSCloud's «POST /v1/iot/notifications/policies»)."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="", description="Shown to people; default: the policy's id.")
    description: str | None = None
    severity_filter: list[Severity] | None = Field(
        default=None, description="Only alarms of these severities; default: any."
    )
    rule_ids: list[str] | None = Field(default=None, description="Only alarms of these rules; default: any.")
    scope_type: ScopeType = "fleet"
    scope_ids: list[str] | None = Field(
        default=None,
        description="What scope_type names: devices (`vendor:native-id`), vendors, or groups or profiles of [stream].",
    )
    event_types: list[AlarmEventType] = Field(
        default_factory=lambda: [AlarmEventType.TRIGGERED],
        min_length=1,
        description="Events to deliver: triggered, repeated, acknowledged, resolved, reopened, snoozed, "
        "snooze_ended. With triggered comes snooze_ended: an alarm that is open still is notified again.",
    )
    channel_ids: list[str] = Field(min_length=1)
    cooldown_seconds: float = Field(
        default=300, ge=0, description="Least time between two notifications of one alarm in the same status."
    )
    is_enabled: bool = True

    @model_validator(mode="after")
    def _scope_is_complete(self) -> Self:
        if (self.scope_type == "fleet") is not (not self.scope_ids):
            raise ValueError("scope_ids must name what scope_type refers to, and must be empty for fleet")
        return self


class NotifySettings(BaseModel):
    """Who is notified of alarms: channels, and the policies that use them."""

    model_config = ConfigDict(extra="forbid")

    give_up_hours: float = Field(
        default=24,
        gt=0,
        description="How long a delivery is attempted. Events that are older when they are read are not delivered.",
    )
    retry_seconds: float = Field(
        default=2, gt=0, description="Wait after the first failed attempt; it doubles with each further failure."
    )
    retry_cap_seconds: float = Field(default=300, gt=0, description="Longest wait between two attempts.")
    history_days: float = Field(default=30, gt=0, description="How long finished deliveries are kept.")
    channels: dict[Key, Channel] = Field(
        default_factory=dict,
        description="Channels by id, each with channel_type, config, name and is_enabled. See docs/notifications.md.",
    )
    policies: dict[Key, Policy] = Field(
        default_factory=dict,
        description="Policies by id, each with channel_ids, severity_filter, event_types and more.",
    )

    @model_validator(mode="after")
    def _channels_are_known(self) -> Self:
        for key, policy in self.policies.items():
            unknown = [name for name in policy.channel_ids if name not in self.channels]
            if unknown:
                raise ValueError(f"[notify.policies.{key}] channel_ids: {unknown[0]!r} is not in [notify.channels]")
        return self
