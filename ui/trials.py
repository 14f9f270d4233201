"""Tries a rule on history by `fleetlake rules test`, in a process of its own that ends when its time is over."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from runtime.log import LOG_FILE
from ui.answers import RequestRefused

_SECONDS = 60.0
_MOST_ALARMS = 500
_NICENESS = 10
"""A trial gives way to the pipeline, which may run on the same machine."""


class RuleTrials:
    """Runs one trial at a time."""

    def __init__(self, command: Sequence[str], seconds: float = _SECONDS) -> None:
        self._command = [*command]
        self._seconds = seconds
        self._running = asyncio.Lock()

    async def run(self, rule: Mapping[str, Any], hours: float) -> dict[str, Any]:
        """The alarms that the rule would have raised in the last `hours`. RequestRefused where that cannot be said."""
        if not self._command:
            raise RequestRefused(501, "unavailable", "Rules cannot be tried here")
        if self._running.locked():
            raise RequestRefused(429, "busy", "Somebody else tries a rule; try again in a moment")
        async with self._running:
            with tempfile.TemporaryDirectory(prefix="fleetlake-trial-") as folder:
                file = Path(folder) / "rule.json"
                file.write_text(json.dumps({"rules": [{**rule, "is_enabled": True}]}), encoding="utf-8")
                return await asyncio.to_thread(self._trial, file, datetime.now(UTC) - timedelta(hours=hours))

    def _trial(self, file: Path, since: datetime) -> dict[str, Any]:
        """Blocks. The module subprocess, because a fork by uvloop runs code of libraries in the child, and crashed."""
        command = [*self._command, str(file), "--from", since.strftime("%Y-%m-%dT%H:%M:%S")]
        environment = {name: value for name, value in os.environ.items() if name != LOG_FILE}
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment) as process:
            try:
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
                output, errors = process.communicate(timeout=self._seconds)
            except subprocess.TimeoutExpired:
                raise RequestRefused(
                    503,
                    "too_slow",
                    f"The trial took more than {self._seconds:g} s and was ended; choose a shorter time",
                ) from None
            finally:
                process.kill()
        return _result(output, errors, process.returncode)


def _result(output: bytes, errors: bytes, status: int | None) -> dict[str, Any]:
    """What the command printed; where it printed no result, why, in its own words."""
    try:
        result: dict[str, Any] = json.loads(output)
    except ValueError:
        lines = errors.decode(errors="replace").strip().splitlines()
        why = lines[-1] if lines else f"The trial ended with status {status}"
        raise RequestRefused(400, "invalid_rule", why) from None
    if result["refused"]:
        raise RequestRefused(400, "invalid_rule", "; ".join(result["refused"]))
    result["alarm_count"] = len(result["alarms"])
    result["alarms"] = result["alarms"][-_MOST_ALARMS:]
    return result
