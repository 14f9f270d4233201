"""The state of one connection to a vendor: logged and counted when it changes; an outage leaves a gap."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime

from connectors.common.connection_log import ConnectionLog, connection_log
from runtime.metrics import CONNECTED, GAPS
from schemas.device import split_device_id
from schemas.envelope import GAP, Envelope, message_id
from schemas.timestamps import format_iso


@dataclass
class ConnectionState:
    """One connection, e.g. a device's WebSocket. Its channel's log says when it is up first, lost, and back."""

    vendor: str
    channel: str
    name: str
    """A device id, if it is a device's own (the log and the device's coverage name it so); else a host, for the log."""

    up: bool = field(default=False, init=False)
    _since: datetime | None = field(default=None, init=False)
    """When it was lost; None while it is up, and before it was up first."""
    _reason: str = field(default="", init=False)

    def __post_init__(self) -> None:
        CONNECTED.labels(self.vendor)  # 0, rather than nothing, where no connection succeeds

    def interrupted(self, since: datetime, reason: str) -> None:
        """Begin with a gap: another process held the connection until `since`. Call it before the first attempt."""
        self._since = since
        self._reason = reason

    def connected(self, now: datetime) -> Gap | None:
        """Note that it is connected; returns the gap since it was lost, or None where it was never lost."""
        if self.up:
            return None
        self.up = True
        CONNECTED.labels(self.vendor).inc()
        self._log.connected(id(self), self.name)
        if self._since is None:
            return None
        GAPS.labels(self.vendor).inc()
        gap = Gap(self.vendor, self.channel, min(self._since, now), now, self._reason)  # the clock may be set back
        self._since = None
        return gap

    def lost(self, now: datetime, reason: str) -> None:
        """Note that it was lost, or that an attempt failed. `reason` is logged and must contain no secret."""
        if self.up:
            self.up = False
            self._since = now
            self._reason = reason
            CONNECTED.labels(self.vendor).dec()
        self._log.failed(id(self), self.name, reason)

    def closed(self) -> None:
        """Note that it was closed on purpose."""
        if self.up:
            CONNECTED.labels(self.vendor).dec()
        self.up = False
        self._log.closed(id(self))

    @property
    def _log(self) -> ConnectionLog:
        return connection_log(self.vendor, self.channel)


@dataclass(frozen=True)
class Gap:
    """A time during which a vendor's messages may have been missed."""

    vendor: str
    channel: str
    start: datetime
    end: datetime
    reason: str

    def envelope(self, device_id: str) -> Envelope:
        """The gap as a raw record of the device."""
        split_device_id(device_id)
        body = {
            "from": format_iso(self.start),
            "to": format_iso(self.end),
            "reason": self.reason,
            "channel": self.channel,
        }
        return Envelope(
            id=message_id([GAP, self.vendor, self.channel, device_id, body["from"]]),
            type=GAP,
            source=f"{self.vendor}/{self.channel}",
            device_id=device_id,
            received_at=self.end,
            time=self.end,
            data=json.dumps(body).encode(),
        )
