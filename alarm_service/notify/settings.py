"""Section `[notify]` of the configuration: channels and policies, in the words of WAYSCloud's document.

The source is wayscloud.txt, «GET /v1/iot/notifications/channels» and what follows. A
channel's or policy's id is its name in the file: `[notify.channels.ops]` is the channel `ops`.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal, Self
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
    """The key in a webhook's secret: `whsec_` and base64 as Standard Webhooks has it, else the text's bytes.

    ValueError where it is not base64.
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
"""Secret, since many services put their token into the path."""


class TargetConfig(BaseModel):
    """What all channels have: how long to wait, and whether the receiver may be on a private network."""

    model_config = ConfigDict(extra="forbid")

    allow_private: bool = Field(
        default=False, description="Deliver to private, loopback and link-local addresses, too; refused without it."
    )
    timeout_seconds: float = Field(default=10, gt=0, le=120, description="An attempt may take so long.")


class WebhookConfig(TargetConfig):
    """A POST of the alarm event as JSON, signed if there is a secret."""

    url: HttpUrl
    secret: Annotated[SecretStr | None, AfterValidator(_signing)] = Field(
        default=None, description="Signs each request (HMAC-SHA256, Standard Webhooks); `whsec_` and base64, or text."
    )
    bearer_token: SecretStr | None = Field(default=None, description="Sent as `Authorization: Bearer`.")


class EmailConfig(TargetConfig):
    """A mail by SMTP."""

    host: str = Field(min_length=1)
    port: int = Field(default=587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="`tls` from the first byte (port 465), `starttls`, or `none` (a local relay)."
    )
    username: str = ""
    password: SecretStr = SecretStr("")
    sender: str = Field(min_length=3, description="Address in From.")
    recipients: list[str] = Field(min_length=1)


class SlackConfig(TargetConfig):
    """A Slack incoming webhook."""

    url: HttpUrl


class TeamsConfig(TargetConfig):
    """A Microsoft Teams workflow («when a webhook request is received»); gets an Adaptive Card."""

    url: HttpUrl


class SmsConfig(TargetConfig):
    """A text message, by a POST to an SMS gateway."""

    url: HttpUrl
    recipients: list[str] = Field(min_length=1, description="Numbers, as the gateway wants them.")
    sender: str = ""
    bearer_token: SecretStr | None = None
    to_field: str = Field(default="to", description="Name of the gateway's JSON field for the recipients (a list),")
    text_field: str = Field(default="text", description="for the text,")
    from_field: str = Field(default="from", description="and for the sender.")
    max_chars: int = Field(default=160, ge=20, le=1600, description="Longer texts are cut.")


class AlertmanagerConfig(TargetConfig):
    """A Prometheus Alertmanager (API v2)."""

    url: HttpUrl
    bearer_token: SecretStr | None = None
    labels: dict[str, str] = Field(default_factory=dict, description="Labels added to each alert.")
    resend_seconds: float = Field(
        default=60, ge=1, le=3600, description="Open alarms are told again so often: Alertmanager forgets them else."
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
    """Which alarm events are told over which channels (wayscloud.txt, «POST /v1/iot/notifications/policies»)."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="", description="Shown to people; default: the policy's id.")
    description: str | None = None
    severity_filter: list[Severity] | None = Field(default=None, description="Only these; default: any.")
    rule_ids: list[str] | None = Field(default=None, description="Only alarms of these rules; default: any.")
    scope_type: ScopeType = "fleet"
    scope_ids: list[str] | None = Field(
        default=None, description="Devices (`vendor:native-id`), vendors, or groups and profiles of [stream]."
    )
    event_types: list[AlarmEventType] = Field(
        default_factory=lambda: [AlarmEventType.TRIGGERED],
        min_length=1,
        description="triggered, repeated, acknowledged, resolved, reopened, snoozed.",
    )
    channel_ids: list[str] = Field(min_length=1)
    cooldown_seconds: float = Field(
        default=300, ge=0, description="The same news of the same alarm is told at most so often."
    )
    is_enabled: bool = True

    @model_validator(mode="after")
    def _scope_is_complete(self) -> Self:
        if (self.scope_type == "fleet") is not (not self.scope_ids):
            raise ValueError("scope_ids must name what scope_type speaks of, and nothing for fleet")
        return self


class NotifySettings(BaseModel):
    """Who is told of alarms: channels and the policies that use them."""

    model_config = ConfigDict(extra="forbid")

    give_up_hours: float = Field(
        default=24, gt=0, description="A delivery is tried for so long; older events are not told at all."
    )
    retry_seconds: float = Field(default=2, gt=0, description="Wait after a first failed attempt; doubles each time,")
    retry_cap_seconds: float = Field(default=300, gt=0, description="up to this.")
    history_days: float = Field(default=30, gt=0, description="Finished deliveries are remembered for so long.")
    channels: dict[Key, Channel] = Field(
        default_factory=dict, description="By id: channel_type, config, name, is_enabled. See docs/notifications.md."
    )
    policies: dict[Key, Policy] = Field(
        default_factory=dict, description="By id: channel_ids, severity_filter, event_types and more."
    )

    @model_validator(mode="after")
    def _channels_are_known(self) -> Self:
        for key, policy in self.policies.items():
            unknown = [name for name in policy.channel_ids if name not in self.channels]
            if unknown:
                raise ValueError(f"[notify.policies.{key}] channel_ids: {unknown[0]!r} is not in [notify.channels]")
        return self
