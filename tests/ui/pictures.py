"""Takes the pictures of the README and of docs/ui.md from a running demo: `python -m tests.ui.pictures`.

It starts a demo in a folder of its own, waits until there is something to see, and takes each picture.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, sync_playwright

from tests.support.lake import ask
from tests.support.paths import ROOT
from tests.support.waiting import eventually_blocking
from tests.ui.chromium import chromium

DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 360, "height": 740}
ROBOT = "SELECT device_id FROM latest WHERE metric = 'water.fresh' ORDER BY device_id DESC LIMIT 1"
CHART = "SELECT bucket, device_id, mean FROM readings_1m WHERE metric = 'battery.level' ORDER BY bucket"
MIN_READINGS = 30_000
DOCUMENTED = ("fleet", "device-dark", "alarms-phone")
"""What the documents show."""


def _paths(data: Path) -> dict[str, str]:
    robot = str(ask(data, ROBOT)[0][0])
    return {
        "fleet": "/fleet",
        "device": f"/device?id={quote(robot, safe='')}&range=15m",
        "alarms": "/alarms",
        "map": "/map",
        "pipeline": "/pipeline",
        "ask": f"/ask?sql={quote(CHART)}",
    }


def take(base: str, browser: Browser, folder: Path, paths: dict[str, str], *, everything: bool) -> None:
    looks: dict[str, dict[str, Any]] = {
        "": {"viewport": DESKTOP, "color_scheme": "light"},
        "-dark": {"viewport": DESKTOP, "color_scheme": "dark"},
        "-phone": {"viewport": PHONE, "device_scale_factor": 2, "color_scheme": "light"},
    }
    for suffix, look in looks.items():
        context = browser.new_context(base_url=base, locale="en-GB", **look)
        tab = context.new_page()
        for name, path in paths.items():
            if not everything and name + suffix not in DOCUMENTED:
                continue
            tab.goto(path)
            tab.get_by_text("live", exact=True).wait_for()
            tab.wait_for_timeout(4000)  # rates and trails need some seconds
            if name == "alarms" and suffix != "-phone":
                tab.locator(".rows-body .device-link").first.click()
                tab.wait_for_timeout(1500)
            tab.screenshot(path=folder / f"ui-{name}{suffix}.png")
        context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "pictures", help="Folder of the pictures.")
    parser.add_argument("--all", action="store_true", help="All pages in all looks, not only those in the documents.")
    arguments = parser.parse_args()
    folder = arguments.to
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        data, log = Path(temporary) / "data", Path(temporary) / "log"
        with log.open("wb") as output:
            command = [sys.executable, "-m", "fleetlake", "demo", "--data", str(data)]
            demo = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        try:
            shown = eventually_blocking(lambda: re.search(r"Live page: (\S+)", log.read_text()), 60, log.read_text)
            eventually_blocking(lambda: _readings(data) > MIN_READINGS, 600, log.read_text)
            with playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"]) as browser:
                take(shown[1], browser, folder, _paths(data), everything=arguments.all)
        finally:
            demo.terminate()
            demo.wait()


def _readings(data: Path) -> int:
    if not (data / "fleet.duckdb").exists():
        return 0
    return int(ask(data, "SELECT count(*) FROM recent_readings")[0][0])


if __name__ == "__main__":
    main()
