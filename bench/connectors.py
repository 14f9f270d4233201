"""Each connector: from its local socket until Kafka has the record; ClimaSense: until the device has its answer.

The real `fleetlake connect VENDOR` on the simulators' clouds. First a flood, as fast as the sockets take it: messages a
second between the first stamp and the last that the broker gives (LogAppendTime). Then an even 200 per second: the time
from before the send to that stamp. Every message must be in the raw topic once. Limits on what one device may say are
lifted; nothing else is configured. CPU seconds are the connector's.
"""

from __future__ import annotations

import asyncio
import time

import aiohttp
import msgspec

from bench.clouds import CLOUDS, Cloud
from bench.fleet import Meter, Site
from bench.kafka import Kafka, broker, read_all
from bench.latency import percentiles
from bench.part import Bench, progress
from bench.process import until
from bench.results import Samples
from runtime.ports import free_port
from schemas.topics import raw_topic
from simulators.climasense.devices import ApiKey, api_keys, write_keys

NAME = "connectors"
PARTITIONS = 4
FLOOD = 20_000
RATE = 200
SECONDS = 5.0
POSTS = 4_000
_CLIENTS = 32
_DEVICES = 90
_SEED = 1
_TIMEOUT = 120.0
_LOST_SECONDS = 20.0
_QUIET_SECONDS = 20.0


async def run(bench: Bench, samples: Samples) -> None:
    """Run all connectors in turn, repeatedly. A failure is noted, and the others go on."""
    async with broker(bench.folder) as kafka:
        for number in range(bench.runs):
            for vendor in (*CLOUDS, "climasense"):
                await kafka.declare_pipeline(PARTITIONS, stamp_raw=True)
                folder = bench.folder / f"{vendor}-{number}"
                folder.mkdir()
                site = Site(kafka, folder, f"{vendor}-{number}", PARTITIONS)
                try:
                    metrics = await (_posts(site, bench) if vendor == "climasense" else _socket(site, bench, vendor))
                except Exception as error:
                    samples.failed(NAME, vendor, repr(error))
                    continue
                samples.add(NAME, vendor, **metrics)
                progress(f"{NAME}: {vendor}: " + ", ".join(f"{m} {v:,.1f}" for m, v in metrics.items()))


# -- sockets


async def _socket(site: Site, bench: Bench, vendor: str) -> dict[str, float]:
    async with CLOUDS[vendor](site.folder) as cloud:
        with site.stage("connect", vendor, extra=cloud.configuration()) as process:
            meter = Meter([process])
            begin = await _warm(site, cloud, meter)
            await _quiet(site.kafka, cloud)
            flood = bench.scaled(FLOOD)
            meter.start()
            for number in range(begin, begin + flood):
                await cloud.say(number)
                if number % 50 == 0:
                    await asyncio.sleep(0)  # paho's own thread, and the sockets' readers
            stamps = await _arrived(site.kafka, cloud, begin, begin + flood, meter)
            cpu = meter.cpu()
            paced = int(RATE * bench.seconds(SECONDS))
            sent = await _pace(cloud, begin + flood, paced)
            later = await _arrived(site.kafka, cloud, begin + flood, begin + flood + paced, meter)
    ages = percentiles([later[number] - at for number, at in sent.items()])
    first, last = min(stamps.values()), max(stamps.values())
    return {
        "messages_per_second": sum(at > first for at in stamps.values()) / (last - first) * 1000,
        "messages_per_cpu_second": flood / cpu,
        **ages,
    }


async def _warm(site: Site, cloud: Cloud, meter: Meter) -> int:
    """Talk until a message comes through; the number of the next one."""

    async def connected() -> bool:
        meter.check()
        return cloud.connected()

    await until(connected, _TIMEOUT, "connector connected")
    number, deadline = 0, time.monotonic() + _TIMEOUT
    while True:
        for _ in range(100):  # one for each device
            await cloud.say(number)
            number += 1
        await asyncio.sleep(1)
        stamps = await _stamps(site.kafka, cloud, number - 100, number)
        if len(stamps) == 100:
            return number
        meter.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {len(stamps)} of 100 messages arrive")


async def _pace(cloud: Cloud, begin: int, count: int) -> dict[int, float]:
    """Send evenly; when each was sent, epoch milliseconds."""
    sent, started = {}, time.monotonic()
    for index in range(count):
        await asyncio.sleep(max(0.0, started + index / RATE - time.monotonic()))
        sent[begin + index] = time.time() * 1000
        await cloud.say(begin + index)
    return sent


async def _arrived(kafka: Kafka, cloud: Cloud, begin: int, end: int, meter: Meter) -> dict[int, float]:
    """Wait until the topic has all of these messages; the broker's stamp of each."""
    stamps: dict[int, float] = {}
    grew = time.monotonic()
    while len(stamps) < end - begin:
        meter.check()
        if time.monotonic() - grew > _LOST_SECONDS:
            raise RuntimeError(f"{end - begin - len(stamps)} of {end - begin} messages are not in the raw topic")
        await asyncio.sleep(0.5)
        now = await _stamps(kafka, cloud, begin, end)
        grew = time.monotonic() if len(now) > len(stamps) else grew
        stamps = now
    return stamps


async def _quiet(kafka: Kafka, cloud: Cloud) -> None:
    """Wait, not for ever, until the connector has read what it reads by REST at its start."""
    before, deadline = -1, time.monotonic() + _QUIET_SECONDS
    while (now := await kafka.ends(raw_topic(cloud.vendor), PARTITIONS)) != before and time.monotonic() < deadline:
        before = now
        await asyncio.sleep(1)


async def _stamps(kafka: Kafka, cloud: Cloud, begin: int, end: int) -> dict[int, float]:
    """The broker's stamp of each message from `begin` to `end`. RuntimeError where one is there twice."""
    stamps: dict[int, float] = {}
    async for record in read_all(kafka.bootstrap, raw_topic(cloud.vendor)):
        message = msgspec.json.decode(record.value or b"{}")
        number = cloud.number(message) if isinstance(message, dict) else None
        if number is not None and begin <= number < end:
            if number in stamps:
                raise RuntimeError(f"message {number} is in the raw topic twice")
            stamps[number] = record.timestamp
    return stamps


# -- ClimaSense


async def _posts(site: Site, bench: Bench) -> dict[str, float]:
    port, keys_file = free_port(), site.folder / "keys.json"
    write_keys(keys_file, _DEVICES, _SEED)
    keys = [key for key in api_keys(_DEVICES, _SEED) if key.role == "device"]
    section = f'[climasense]\nport = {port}\nkeys_file = "{keys_file}"\nrequests_per_minute = 1000000\n'
    with site.stage("connect", "climasense", extra=section) as process:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
            url = f"http://127.0.0.1:{port}/v1/telemetry"
            meter = Meter([process])
            await _serving(client, url, keys[0], meter)
            posts = bench.scaled(POSTS)
            meter.start()
            await _flood_posts(client, url, keys, posts)
            wall, cpu = meter.wall(), meter.cpu()
            ages = await _paced_posts(client, url, keys, int(RATE * bench.seconds(SECONDS)))
    due = posts + len(ages)
    received = await site.kafka.ends(raw_topic("climasense"), PARTITIONS)
    if received < due:
        raise RuntimeError(f"{due} posts were acknowledged, {received} are in Kafka")
    return {"posts_per_second": posts / wall, "posts_per_cpu_second": posts / cpu, **percentiles(ages)}


async def _serving(client: aiohttp.ClientSession, url: str, key: ApiKey, meter: Meter) -> None:
    async def serves() -> bool:
        meter.check()
        try:
            return await _post(client, url, key, -1) < 300
        except aiohttp.ClientError:
            return False

    await until(serves, _TIMEOUT, "ClimaSense server up")


async def _flood_posts(client: aiohttp.ClientSession, url: str, keys: list[ApiKey], posts: int) -> None:
    """Some clients, each of which posts once more as soon as it is answered."""
    numbers = iter(range(posts))

    async def poster() -> None:
        for number in numbers:
            await _accepted(client, url, keys[number % len(keys)], number)

    await asyncio.gather(*(poster() for _ in range(_CLIENTS)))


async def _paced_posts(client: aiohttp.ClientSession, url: str, keys: list[ApiKey], posts: int) -> list[float]:
    """Even posts, none of which waits for another; milliseconds of each."""
    ages: list[float] = []

    async def timed(number: int) -> None:
        begun = time.monotonic()
        await _accepted(client, url, keys[number % len(keys)], number)
        ages.append(1000 * (time.monotonic() - begun))

    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(posts):
            await asyncio.sleep(max(0.0, started + number / RATE - time.monotonic()))
            group.create_task(timed(number + 10_000_000))
    return ages


async def _accepted(client: aiohttp.ClientSession, url: str, key: ApiKey, number: int) -> None:
    status = await _post(client, url, key, number)
    if status >= 300:
        raise RuntimeError(f"a post was answered with {status}")


async def _post(client: aiohttp.ClientSession, url: str, key: ApiKey, number: int) -> int:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{number % 1_000_000:06d}Z"
    values = {"temperature": 21.5, "humidity": 44.0, "battery_level": 87.0}
    readings = [{"sensor_type": name, "value": value, "timestamp": stamp} for name, value in values.items()]
    headers = {"Authorization": f"Bearer {key.key}", "Content-Type": "application/json"}
    async with client.post(url, data=msgspec.json.encode({"readings": readings}), headers=headers) as answer:
        await answer.read()
        return answer.status
