"""Where Chromium is."""

from __future__ import annotations

import os
import shutil


def chromium() -> str:
    """The path of Chromium: FLEETLAKE_CHROMIUM, else Debian's. FileNotFoundError where there is none."""
    path = os.environ.get("FLEETLAKE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        raise FileNotFoundError("there is no Chromium: apt-get install chromium, or name one by FLEETLAKE_CHROMIUM")
    return path
