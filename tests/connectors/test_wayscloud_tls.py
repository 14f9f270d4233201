"""MQTT over TLS with client certificates: what is right gets in, what is wrong is refused in words.

On amqtt, and on Mosquitto where it is installed. amqtt asks for no client certificate, but refuses a foreign one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from connectors.wayscloud.checks import check
from simulators.wayscloud.broker import BrokerOptions, run_mqtt_broker
from tests.connectors.wayscloud import mosquitto_broker, settings_for
from tests.support.certificates import Certificates

LOGIN = {"mqtt_username": "fleet", "mqtt_password": "s3cret"}


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, Path]:
    own, foreign = Certificates.issue(tmp_path / "own"), Certificates.issue(tmp_path / "foreign")
    return {
        "authority": own.authority,
        "server": own.server,
        "client": own.client,
        "foreign authority": foreign.authority,
        "foreign client": foreign.client,
        "absent": tmp_path / "absent.pem",
    }


def broker_of(kind: str, folder: Path, port: int, certificates: dict[str, Path]) -> AbstractAsyncContextManager[int]:
    if kind == "amqtt":
        files = certificates["server"], certificates["authority"]
        return run_mqtt_broker(BrokerOptions("127.0.0.1", port, "fleet", "s3cret", False, *files))
    more = f"certfile {certificates['server']}\nkeyfile {certificates['server']}\ncafile {certificates['authority']}\n"
    more += "require_certificate true"
    return mosquitto_broker(folder, port, more=more, logins={"fleet": "s3cret"})


BROKERS = [
    "amqtt",
    pytest.param("mosquitto", marks=pytest.mark.mosquitto),
]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"mqtt_ca_file": "foreign authority"}, "the server's certificate is not trusted"),
    ({"mqtt_ca_file": None}, "the server's certificate is not trusted"),
    ({"mqtt_ca_file": "absent"}, "[wayscloud] mqtt_ca_file: "),
    ({"mqtt_host": "127.0.0.1"}, "the server's certificate is for another host"),
    ({"mqtt_certificate_file": "foreign client"}, "client certificate"),
    ({"mqtt_password": "s3cret-not"}, "refused: "),
    ({"mqtt_tls": False}, "connection lost"),
]


@pytest.mark.parametrize("kind", BROKERS)
async def test_what_is_right_gets_in_and_what_is_wrong_is_refused(
    kind: str, tmp_path: Path, unused_port: Callable[[], int], certificates: dict[str, Path]
) -> None:
    async with broker_of(kind, tmp_path, unused_port(), certificates) as port:
        right = {"mqtt_host": "localhost", "mqtt_tls": True, "connect_timeout_seconds": 5, **LOGIN}
        right |= {"mqtt_ca_file": certificates["authority"], "mqtt_certificate_file": certificates["client"]}

        async def outcome(changed: dict[str, Any]) -> tuple[bool, str]:
            changed = {name: certificates.get(value, value) for name, value in changed.items()}
            [result] = await check(settings_for(port, **{**right, **changed}), tmp_path)
            return result.ok, result.detail

        assert await outcome({}) == (True, f"localhost:{port} lets us in")
        ok, why = await outcome({"mqtt_certificate_file": None})
        assert ok is (kind != "mosquitto"), why
        assert ok or why.endswith("client certificate")
        for changed, expected in WRONG:
            ok, why = await outcome(changed)
            assert not ok and expected in why, (changed, why)
            assert "s3cret" not in why
