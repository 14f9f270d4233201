"""The HTTP endpoints of notifications: what there is, what was delivered, and sending a test."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from alarm_service.api import Handler, Refused, checked
from alarm_service.notify.dispatcher import send_test
from alarm_service.notify.outbox import Outbox
from alarm_service.notify.settings import NotifySettings
from schemas import notify_api as contract


class NotifyApi:
    """The handlers, by the names of `schemas.alarm_api.ENDPOINTS`."""

    def __init__(self, settings: NotifySettings, outbox: Outbox) -> None:
        self._settings = settings
        self._outbox = outbox

    def handlers(self) -> dict[str, Handler]:
        """By endpoint."""
        return {
            "list_channels": self._channels,
            "read_channel": self._channel,
            "test_channel": self._test,
            "list_policies": self._policies,
            "read_policy": self._policy,
            "list_deliveries": self._deliveries,
        }

    async def _channels(self, _: web.Request) -> web.Response:
        found = [
            contract.ChannelListed(**_public_channel(self._settings, key)) for key in sorted(self._settings.channels)
        ]
        return _json(contract.ChannelList(channels=found))

    async def _channel(self, request: web.Request) -> web.Response:
        key = _known(request, "channel_id", self._settings.channels)
        config = self._settings.channels[key].config.model_dump(mode="json")
        return _json(contract.ChannelDetail(**_public_channel(self._settings, key), config=config))

    async def _test(self, request: web.Request) -> web.Response:
        key = _known(request, "channel_id", self._settings.channels)
        outcome = await send_test(self._settings.channels[key])
        message = "Test notification sent successfully" if outcome.delivered else outcome.detail
        return _json(contract.TestSent(success=outcome.delivered, message=message, channel_id=key))

    async def _policies(self, _: web.Request) -> web.Response:
        found = [
            contract.PolicyListed(**_public_policy(self._settings, key)) for key in sorted(self._settings.policies)
        ]
        return _json(contract.PolicyList(policies=found))

    async def _policy(self, request: web.Request) -> web.Response:
        key = _known(request, "policy_id", self._settings.policies)
        return _json(contract.PolicyDetail(**_public_policy(self._settings, key)))

    async def _deliveries(self, request: web.Request) -> web.Response:
        asked = checked(lambda: contract.DeliveryQuery.model_validate(dict(request.query)))
        which = asked.model_dump(include={"channel_type", "status", "channel_id"})
        found, total = await asyncio.to_thread(lambda: self._outbox.history(asked.limit, asked.offset, **which))
        listed = [contract.DeliveryListed(**asdict(each)) for each in found]
        return _json(contract.DeliveryList(deliveries=listed, total=total, limit=asked.limit, offset=asked.offset))


def _known(request: web.Request, name: str, there: Any) -> str:
    key = request.match_info[name]
    if key not in there:
        raise Refused(404, "not_found", f"There is no such {name.removesuffix('_id')}")
    return key


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


def _json(model: BaseModel) -> web.Response:
    return web.json_response(text=model.model_dump_json())
