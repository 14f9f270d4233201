"""The bytes that the connectors of a process may have received: counted over threads, and waited for."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, cast

from connectors.common.byte_budget import ByteBudget
from connectors.wayscloud.logins import Login
from connectors.wayscloud.mqtt_client import V5, MqttClient
from connectors.wayscloud.mqtt_session import MqttSession
from connectors.wayscloud.protocol import Packet
from connectors.wayscloud.settings import WayscloudSettings
from tests.support.waiting import eventually


def test_what_is_taken_is_bounded_but_one_message_always_goes() -> None:
    budget = ByteBudget(100)
    assert budget.try_take(60) and budget.try_take(40) and not budget.try_take(1)
    budget.release(60)
    budget.release(40)
    assert budget.try_take(1000), "larger than all of it, when nothing else is held"
    assert not budget.try_take(1)
    budget.release(1000)
    assert budget.held == 0


def test_a_thread_waits_for_room_and_may_give_up() -> None:
    budget, took, closing = ByteBudget(100), list[bool](), threading.Event()
    assert budget.try_take(100)
    waiting = threading.Thread(target=lambda: took.append(budget.take(50, closing.is_set)))
    waiting.start()
    assert took == []
    budget.release(100)
    waiting.join(10)
    assert took == [True] and budget.held == 50
    giving_up = threading.Thread(target=lambda: took.append(budget.take(100, closing.is_set)))
    giving_up.start()
    closing.set()
    budget.wake()
    giving_up.join(10)
    assert took == [True, False] and budget.held == 50


async def test_mqtt_reads_no_further_while_too_many_bytes_wait() -> None:
    """Six messages of a megabyte on two connections, with room for three; in the end all is given back."""
    budget = ByteBudget(3_100_000)
    clients = [MqttClient(WayscloudSettings(), Login("c", "", "", ()), V5, budget) for _ in range(2)]
    message = cast(Any, SimpleNamespace(payload=b"x" * 1_000_000, mid=1, qos=1))

    def network_thread(client: MqttClient) -> None:
        for _ in range(3):
            client._on_message(None, None, message)

    reading = [asyncio.create_task(asyncio.to_thread(network_thread, client)) for client in clients]
    await eventually(lambda: budget.held == 3_003_000)
    assert sum(len(client.messages) for client in clients) == 3 and not all(task.done() for task in reading)
    for client in clients:
        while client.messages:
            client.handed_on(client.messages.popleft())
    await eventually(lambda: sum(len(client.messages) for client in clients) == 3)
    for client in clients:
        client.take_no_more()
        await client.close()
    await asyncio.gather(*reading)
    assert budget.held == 0


async def test_the_event_loop_goes_round_between_long_messages() -> None:
    """Each takes long to read, and as long as the publisher has room nothing else would let the loop go."""
    session = MqttSession(WayscloudSettings(), Login("c", "", "", ()), V5, ByteBudget())
    rounds, at = 0, list[int]()

    async def publish(_: Packet) -> list[asyncio.Future[None]]:
        at.append(rounds)
        return []

    async def turn() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    for number in range(5):
        long = SimpleNamespace(payload=b"x" * 100_000, topic="t", mid=number, qos=1, retain=False, dup=False)
        session._client.messages.append(cast(Any, long))
    tasks = [asyncio.create_task(turn()), asyncio.create_task(session._pump(publish))]
    await eventually(lambda: len(at) == 5)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(set(at)) == 5
