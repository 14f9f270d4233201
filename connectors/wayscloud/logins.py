"""The MQTT connections that the configuration asks for (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.wayscloud.protocol import subscriptions
from connectors.wayscloud.settings import WayscloudSettings


@dataclass(frozen=True)
class Login:
    """The client id and the credentials of one connection, and what it subscribes to."""

    client_id: str
    username: str
    password: str
    topics: tuple[str, ...]
    device: str = ""
    """Native id where the connection is one device's; empty where it is shared by all."""


def logins(settings: WayscloudSettings, client_id: str) -> list[Login]:
    """One connection for each device with credentials of its own, and a shared one if there are others."""
    chosen = []
    for each in settings.device_credentials:
        name = each.client_id or f"{client_id}-{each.device_id}"
        topics = subscriptions(settings.topics, settings.share_group, each.device_id)
        chosen.append(Login(name, each.username, each.password.get_secret_value(), topics, each.device_id))
    if settings.mqtt_username or not chosen:
        topics = subscriptions(settings.topics, settings.share_group)
        chosen.append(Login(client_id, settings.mqtt_username, settings.mqtt_password.get_secret_value(), topics))
    return chosen
