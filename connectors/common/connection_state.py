"""The state of one connection: what is logged and counted when it changes, and the gap that an outage leaves."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from datetime import datetime

from runtime.metrics import CONNECTED, GAPS
from schemas.device import split_device_id
from schemas.envelope import GAP, Envelope, message_id
from schemas.timestamps import format_iso

_log = logging.getLogger(__name__)


@dataclass
class ConnectionState:
    """One connection to a vendor, e.g. a device's WebSocket. One log line when it goes, one when it comes back."""

    vendor: str
    channel: str
    name: str
    """What the log calls it: a device id, or the host of a broker."""

    up: bool = field(default=False, init=False)
    _since: datetime | None = field(default=None, init=False)
    """When it went down after having been up."""
    _reason: str = field(default="", init=False)
    _complained: bool = field(default=False, init=False)

    def interrupted(self, since: datetime, reason: str) -> None:
        """To be called before the first connection where somebody else held it until `since`: that is a gap, too."""
        self._since = since
        self._reason = reason

    def connected(self, now: datetime) -> Gap | None:
        """To be called when it is (again) connected; the gap since it was lost, if it ever was."""
        if self.up:
            return None
        self.up = True
        CONNECTED.labels(self.vendor).inc()
        if self._complained:
            _log.info("%s %s: connected again to %s", self.vendor, self.channel, self.name)
        self._complained = False
        if self._since is None:
            return None
        GAPS.labels(self.vendor).inc()
        gap = Gap(self.vendor, self.channel, self._since, now, self._reason)
        self._since = None
        return gap

    def lost(self, now: datetime, reason: str) -> None:
        """To be called when it is lost, and after each attempt that failed. `reason` must hold no secret."""
        if self.up:
            self.up = False
            self._since = now
            self._reason = reason
            CONNECTED.labels(self.vendor).dec()
        if not self._complained:
            _log.warning("%s %s: no connection to %s (%s); trying again", self.vendor, self.channel, self.name, reason)
        self._complained = True

    def closed(self) -> None:
        """To be called when it is given up on purpose."""
        if self.up:
            CONNECTED.labels(self.vendor).dec()
        self.up = False


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
