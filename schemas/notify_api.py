"""The bodies of the HTTP API of notifications (WAYSCloud's API document, «Notifications»).

Channels and policies are configuration: the API reads them, and the configuration file changes them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from schemas.records import AlarmEventType
from schemas.words import Severity

LIMIT, MAX_LIMIT = 50, 500
ChannelType = Literal["webhook", "email", "slack", "teams", "sms", "alertmanager"]
DeliveryStatus = Literal["pending", "delivered", "failed"]


class _Body(BaseModel):
    """A body. Unknown members are ignored."""


class ChannelListed(_Body):
    """A channel in the list of channels."""

    id: str
    name: str
    channel_type: ChannelType
    is_enabled: bool


class ChannelList(_Body):
    """All channels, by id."""

    channels: list[ChannelListed]


class ChannelDetail(ChannelListed):
    """A channel. Whatever may be a secret is masked, URLs too."""

    config: dict[str, Any]


class TestSent(_Body):
    """The result of a test notification."""

    success: bool
    message: str
    channel_id: str


class PolicyListed(_Body):
    """A policy in the list of policies."""

    id: str
    name: str
    severity_filter: list[Severity] | None
    is_enabled: bool


class PolicyList(_Body):
    """All policies, by id."""

    policies: list[PolicyListed]


class PolicyDetail(PolicyListed):
    """A policy. A filter that is null matches everything."""

    description: str | None
    rule_ids: list[str] | None
    scope_type: Literal["fleet", "device", "group", "profile", "vendor"]
    scope_ids: list[str] | None
    event_types: list[AlarmEventType]
    channel_ids: list[str]
    cooldown_seconds: float


class DeliveryListed(_Body):
    """A delivery: one alarm event, sent by one policy over one channel."""

    id: str = Field(description="Also the `Idempotency-Key` of every attempt.")
    channel_type: ChannelType
    status: DeliveryStatus
    sent_at: datetime | None = Field(description="When the receiver accepted it.")
    alarm_id: str
    event_type: str
    policy_id: str
    channel_id: str
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None
    detail: str = Field(description="The receiver's last answer, or the last error.")


class DeliveryList(_Body):
    """One page of the matching deliveries, latest first."""

    deliveries: list[DeliveryListed]
    total: int = Field(description="Number of all matching deliveries, on this page or not.")
    limit: int
    offset: int


class DeliveryQuery(_Body):
    """Filters and page of the list of deliveries."""

    channel_type: ChannelType | None = None
    status: DeliveryStatus | None = None
    channel_id: str | None = None
    limit: int = Field(default=LIMIT, ge=1, le=MAX_LIMIT)
    offset: int = Field(default=0, ge=0, le=1_000_000_000)


MODELS: tuple[type[BaseModel], ...] = (
    ChannelList,
    ChannelDetail,
    TestSent,
    PolicyList,
    PolicyDetail,
    DeliveryList,
)


def query_parameters() -> dict[str, dict[str, Any]]:
    """The parameters of the list of deliveries, in OpenAPI's form."""
    properties = DeliveryQuery.model_json_schema()["properties"]
    return {name: {"schema": {k: v for k, v in schema.items() if k != "title"}} for name, schema in properties.items()}
