"""Measures the live page: first paint with many devices, scrolling, and fifty viewers at once.

To be run as `python -m tests.ui.measure`.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import Page, async_playwright

from fleetlake.local.broker import EmbeddedKafka
from runtime.kafka import KafkaSettings, declare_topics
from runtime.ports import free_port
from schemas import wire
from schemas.topics import DEVICES, READINGS, topic_specs
from sinks.duckdb.published import PublishedDatabase
from sinks.settings import DuckdbSettings
from tests.support.kafka import producer
from tests.support.lake import Writing
from tests.support.paths import ROOT
from tests.support.samples import observation
from tests.support.waiting import eventually, passing
from tests.ui.chromium import chromium

VIEWERS = 50
SECONDS = 30
RATE = 200
"""Observations per second."""
SCROLL = """async () => {
  const box = document.querySelector('.rows'), frames = [];
  let last = performance.now();
  for (let step = 0; step < 120; step++) {
    box.scrollTop += 1500;
    await new Promise(requestAnimationFrame);
    frames.push(performance.now() - last);
    last = performance.now();
  }
  return frames.sort((a, b) => a - b);
}"""


def publish(data: Path, devices: int) -> None:
    (data / "work").mkdir(parents=True)
    now = datetime.now(UTC)
    writing = Writing(data)
    names = [f"karcher:machine-{number:05}" for number in range(devices)]
    writing.write(DEVICES, *(wire.Device(name, "karcher", now, name=name[8:], model="KIRA B 50") for name in names))
    writing.write(READINGS, *(observation(n, device=name, at=now) for n, name in enumerate(names)))
    published = PublishedDatabase(data, DuckdbSettings())
    published.publish()
    published.close()


async def painted(base: str) -> dict[str, Any]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        paints, shown = [], []
        for _ in range(5):
            context = await browser.new_context(viewport={"width": 1440, "height": 900})
            tab = await context.new_page()
            await tab.goto(f"{base}/fleet")
            await tab.get_by_role("table", name="Devices").wait_for()
            shown.append(await tab.evaluate("performance.now()"))
            paints.append(await tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            before = await main_thread(tab)
            frames = await tab.evaluate(SCROLL)
            busy = (await main_thread(tab) - before) / len(frames)
            await context.close()
        await browser.close()
    frame = frames[int(len(frames) * 0.95)]
    return {
        "first paint": statistics.median(paints),
        "list shown": statistics.median(shown),
        "frame p95": frame,
        "CPU ms/frame": busy * 1000,
    }


async def main_thread(tab: Page) -> float:
    """Seconds of CPU of the page's main thread so far, which other processes do not prolong."""
    session = await tab.context.new_cdp_session(tab)
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


def usage(pid: int) -> tuple[float, float]:
    """Seconds of CPU so far, and resident megabytes."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return (int(fields[11]) + int(fields[12])) / ticks, pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def watch(base: str, until: float) -> int:
    received = 0
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
        session.get(f"{base}/api/live") as answer,
    ):
        while (left := until - time.monotonic()) > 0:
            try:
                received += len(await asyncio.wait_for(answer.content.readany(), left))
            except TimeoutError:
                break
    return received


async def viewers(base: str, pid: int, kafka: str) -> dict[str, Any]:
    before, started = usage(pid), time.monotonic()
    watching = [asyncio.create_task(watch(base, started + SECONDS)) for _ in range(VIEWERS)]
    async with producer(kafka) as client:
        number = 0
        while time.monotonic() - started < SECONDS:
            now = datetime.now(UTC)
            for _ in range(RATE // 10):
                name = f"karcher:machine-{number % 1000:05}"
                await client.send(READINGS, wire.encode(observation(number, device=name, at=now)), key=name.encode())
                number += 1
            await passing(0.1, "the rate of the load: a tenth of a second's records at a time")
    received = await asyncio.gather(*watching)
    after, elapsed = usage(pid), time.monotonic() - started
    return {
        "observations/s": number / elapsed,
        "CPU of one core": f"{(after[0] - before[0]) / elapsed:.0%}",
        "resident MB": after[1],
        "kB/s per viewer": statistics.mean(received) / elapsed / 1000,
    }


async def measure(devices: int, data: Path, kafka: str) -> None:
    publish(data, devices)
    port = free_port()
    command = ["-m", "fleetlake", "ui", "--data", str(data), "--port", str(port)]
    environment = os.environ | {"FLEETLAKE_KAFKA__BOOTSTRAP_SERVERS": kafka, "FLEETLAKE_UI__SIGN_IN": "false"}
    page = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    base = f"http://127.0.0.1:{port}"
    try:
        await eventually(lambda: answers(base), 60)
        print(devices, "devices:", await painted(base))
        if devices == 1000:
            print(VIEWERS, "viewers:", await viewers(base, page.pid, kafka))
    finally:
        page.terminate()
        await page.wait()


async def answers(base: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{base}/api/fleet") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary, EmbeddedKafka(Path(temporary)) as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap, partitions=2)
        asyncio.run(declare_topics(kafka, topic_specs()))
        for devices in (1000, 10_000):
            asyncio.run(measure(devices, Path(temporary) / str(devices), broker.bootstrap))


if __name__ == "__main__":
    main()
