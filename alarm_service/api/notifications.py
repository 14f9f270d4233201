"""The endpoints of notifications: channels, policies, the history of deliveries, and sending a test."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from aiohttp import web

from alarm_service.api.requests import ROLE, Handler, RequestRefused, json_response, validated
from alarm_service.notify.delivery_history import HistoryQuery, read_history
from alarm_service.notify.dispatcher import send_test
from alarm_service.notify.settings import NotifySettings
from schemas import notify_api as contract
from schemas.words import KeyRole

_MASK = "********"


class NotificationEndpoints:
    """The handlers, by the names of `schemas.alarm_api.ENDPOINTS`."""

    def __init__(self, settings: NotifySettings, engine: sa.Engine) -> None:
        self._settings = settings
        self._engine = engine

    def handlers(self) -> dict[str, Handler]:
        """The handlers by endpoint name."""
        return {
            "list_channels": self._channels,
            "read_channel": self._channel,
            "test_channel": self._test,
            "list_policies": self._policies,
            "read_policy": self._policy,
            "list_deliveries": self._deliveries,
        }

    async def _channels(self, _: web.Request) -> web.Response:
        channels = [
            contract.ChannelListed(**_public_channel(self._settings, key)) for key in sorted(self._settings.channels)
        ]
        return json_response(contract.ChannelList(channels=channels))

    async def _channel(self, request: web.Request) -> web.Response:
        key = _require(request, "channel_id", self._settings.channels)
        config = self._settings.channels[key].config.model_dump(mode="json")
        if not request[ROLE].may(KeyRole.OPERATE):
            config = _without_recipients(config)
        return json_response(contract.ChannelDetail(**_public_channel(self._settings, key), config=config))

    async def _test(self, request: web.Request) -> web.Response:
        key = _require(request, "channel_id", self._settings.channels)
        outcome = await send_test(self._settings.channels[key])
        message = "Test notification sent successfully" if outcome.delivered else outcome.detail
        return json_response(contract.TestSent(success=outcome.delivered, message=message, channel_id=key))

    async def _policies(self, _: web.Request) -> web.Response:
        policies = [
            contract.PolicyListed(**_public_policy(self._settings, key)) for key in sorted(self._settings.policies)
        ]
        return json_response(contract.PolicyList(policies=policies))

    async def _policy(self, request: web.Request) -> web.Response:
        key = _require(request, "policy_id", self._settings.policies)
        return json_response(contract.PolicyDetail(**_public_policy(self._settings, key)))

    async def _deliveries(self, request: web.Request) -> web.Response:
        query = validated(lambda: contract.DeliveryQuery.model_validate(dict(request.query)))
        which = HistoryQuery(query.limit, query.offset, query.channel_type, query.status, query.channel_id)
        deliveries, total = await asyncio.to_thread(read_history, self._engine, which)
        listed = [contract.DeliveryListed(**asdict(each)) for each in deliveries]
        page = contract.DeliveryList(deliveries=listed, total=total, limit=query.limit, offset=query.offset)
        return json_response(page)


def _require(request: web.Request, name: str, existing: Any) -> str:
    key = request.match_info[name]
    if key not in existing:
        raise RequestRefused(404, "not_found", f"There is no such {name.removesuffix('_id')}")
    return key


def _without_recipients(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without people's addresses and numbers; their count stays."""
    recipients = config.get("recipients")
    return config if recipients is None else config | {"recipients": [_MASK] * len(recipients)}


def _public_channel(settings: NotifySettings, key: str) -> dict[str, Any]:
    channel = settings.channels[key]
    return {
        "id": key,
        "name": channel.name or key,
        "channel_type": channel.channel_type,
        "is_enabled": channel.is_enabled,
    }


def _public_policy(settings: NotifySettings, key: str) -> dict[str, Any]:
    policy = settings.policies[key]
    return {**policy.model_dump(), "id": key, "name": policy.name or key}
