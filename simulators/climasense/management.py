"""The management of a ClimaSense device: it reads settings, carries out commands, updates its firmware.

Sensors do none of it: their hub acts for them.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from simulators.climasense.client import Answer, Client
from simulators.wire import encode

Misbehaviour = Literal["bad_json", "wrong_key", "flood", "repeat_results", "break_download"]

FIRST_VERSION = "1.0.0"
FLOOD = 40
"""Requests at once: more than the endpoint allows per minute."""

REPORT_EVERY = 25
"""Percent between two reports of a download's progress."""


@dataclass
class DeviceManagement:
    """The management of one device. ``note`` takes each misbehaviour, with the status of its answer."""

    key: str
    client: Client
    misbehave: frozenset[Misbehaviour]
    note: Callable[[Misbehaviour, int], None]
    version: str = FIRST_VERSION
    settings: dict[str, Any] = field(default_factory=dict)
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The reports of the commands carried out, by their ids."""
    _broken: bool = False
    _gave_up: set[str] = field(default_factory=set)

    async def run(self, every: float, offset: float) -> None:
        """Do all of it every ``every`` seconds, for the first time after ``offset`` seconds."""
        await asyncio.sleep(offset)
        while True:
            await self.once()
            await asyncio.sleep(every)

    async def once(self) -> None:
        """Handle settings, commands and firmware; then do what a device should not do."""
        answer = await self.client.ask("GET", "/v1/settings", self.key)
        if answer.ok:
            self.settings = answer.json()
        pending = await self.client.ask("GET", "/v1/commands/pending", self.key)
        for command in pending.json().get("commands", []) if pending.ok else []:
            await self._carry_out(command)
        await self._update()
        await self._misbehave()

    # --- commands --------------------------------------------------------------------------------------------

    async def _carry_out(self, command: dict[str, Any]) -> None:
        """Carry out a command once, and report it until the server has the report; a repeated one is only reported."""
        identity = command["command_id"]
        if identity not in self.done:
            self.done[identity] = {"command_id": identity, **await self._outcome(command)}
        body = encode(self.done[identity])
        await self.client.deliver("/v1/commands/result", self.key, body)
        if "repeat_results" in self.misbehave:
            repeated = await self.client.ask("POST", "/v1/commands/result", self.key, body)
            self.note("repeat_results", repeated.status)

    async def _outcome(self, command: dict[str, Any]) -> dict[str, Any]:
        payload = command.get("payload") or {}
        match command.get("type"):
            case "diagnostics":
                return {"status": "acked", "result": {"firmware": self.version, "commands_done": len(self.done)}}
            case "config_update":
                answer = await self.client.ask("PATCH", "/v1/settings", self.key, encode(payload))
                if answer.ok:
                    self.settings = answer.json()
                    return {"status": "acked"}
                return {"status": "failed", "error_message": f"settings were refused: HTTP {answer.status}"}
            case "reboot" | "factory_reset":
                return {"status": "acked"}
            case other:
                return {"status": "failed", "error_message": f"unknown command {other}"}

    # --- firmware --------------------------------------------------------------------------------------------

    async def _update(self) -> None:
        offer = (await self.client.ask("GET", f"/v1/ota/check?current_version={self.version}", self.key)).json()
        version = offer.get("version")
        if not offer.get("update_available") or not isinstance(version, str) or version in self._gave_up:
            return
        image = await self._download(version, int(offer["size_bytes"]))
        if image is None:
            return  # the next check offers it once more
        await self._report(version, "verifying")
        if f"sha256:{sha256(image).hexdigest()}" != offer["checksum"]:
            self._gave_up.add(version)
            await self._report(version, "failed", error_message="checksum does not match")
            return
        await self._report(version, "applying")
        self.version = version
        await self._report(version, "completed")

    async def _download(self, version: str, size: int) -> bytes | None:
        """The image. A broken download is resumed once, as a device does that was killed."""
        image = bytearray()
        for _ in range(2):
            try:
                await self._read(version, size, image)
            except PermissionError as refused:
                await self._report(version, "failed", error_message=f"download refused: HTTP {refused}")
                return None
            if len(image) >= size:
                await self._report(version, "downloaded", progress_percent=100)
                return bytes(image)
        await self._report(version, "failed", error_message="download broke off")
        return None

    async def _read(self, version: str, size: int, image: bytearray) -> None:
        reported = -REPORT_EVERY
        stream = self.client.stream(f"/v1/ota/download/{version}", self.key, len(image))
        async for piece in stream:
            image += piece
            percent = len(image) * 100 // size
            if percent >= reported + REPORT_EVERY:
                reported = percent - percent % REPORT_EVERY
                await self._report(version, "downloading", progress_percent=percent)
            if "break_download" in self.misbehave and not self._broken and len(image) >= size // 2:
                self._broken = True
                await stream.aclose()
                self.note("break_download", 0)
                return

    async def _report(self, version: str, status: str, **details: Any) -> Answer:
        return await self.client.deliver(
            "/v1/ota/status", self.key, encode({"version": version, "status": status, **details})
        )

    # --- misbehaviour ----------------------------------------------------------------------------------------

    async def _misbehave(self) -> None:
        if "bad_json" in self.misbehave:
            for path in ("/v1/commands/result", "/v1/ota/status", "/v1/telemetry"):
                self.note("bad_json", (await self.client.ask("POST", path, self.key, b'{"status":')).status)
        if "wrong_key" in self.misbehave:
            self.note("wrong_key", (await self.client.ask("GET", "/v1/settings", f"{self.key}x")).status)
        if "flood" in self.misbehave:
            asked = [self.client.ask("GET", "/v1/commands/pending", self.key) for _ in range(FLOOD)]
            for answer in await asyncio.gather(*asked):
                self.note("flood", answer.status)
