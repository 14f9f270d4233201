"""The endpoints of firmware updates: check, download, status."""

from __future__ import annotations

from typing import NoReturn

from aiohttp import web
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from connectors.climasense import protocol
from connectors.climasense.answers import RequestRefused, json_answer
from connectors.climasense.delivery import Delivery
from connectors.climasense.protocol import Identity, parse
from connectors.climasense.store.firmware import CHUNK_BYTES
from connectors.climasense.store.records import Firmware
from connectors.climasense.store.threads import StoreThreads
from connectors.common.clock import utc_now
from schemas import climasense as contract


class FirmwareEndpoints:
    """Offers images to devices, and follows their updates."""

    def __init__(self, store: StoreThreads, delivery: Delivery) -> None:
        self._run = store.run
        self._store = store.store
        self._delivery = delivery

    async def check(self, request: web.Request, identity: Identity) -> web.Response:
        """Store the version that the device runs, and offer it a newer one if there is one."""
        current = request.query.get("current_version", "").strip()
        if not 1 <= len(current) <= 100:
            raise RequestRefused(400, "invalid_request", "current_version: is required")
        changed = await self._run(self._store.devices.note_firmware, identity.device, current)
        if changed is not None:
            await self._delivery.register(changed, utc_now())
        return json_answer(_offer(await self._run(self._store.firmware.update_for, identity.batch, current)))

    async def download(self, request: web.Request, identity: Identity) -> web.StreamResponse:
        """Send an image, or the part of it that the request names."""
        version = request.match_info["version"]
        offered = await self._run(self._store.firmware.offered, identity.batch)
        image = next((image for image in offered if image.version == version), None)
        if image is None:
            raise RequestRefused(404, "not_found", "There is no such firmware for this device")
        start, stop = _range(request, image)
        response = _download_response(image, start, stop)
        first = await self._run(self._store.firmware.chunk, version, start // CHUNK_BYTES)  # still time to answer 503
        await response.prepare(request)
        try:
            await self._send(response, version, first, range(start, stop))
        except SQLAlchemyError as away:
            if request.transport is not None:
                request.transport.abort()  # or the device would wait for the rest
            raise ConnectionResetError from away
        return response

    async def _send(self, response: web.StreamResponse, version: str, chunk: bytes, positions: range) -> None:
        """Send these positions of the image; `chunk` is the one that the first position lies in."""
        number, at = positions.start // CHUNK_BYTES, positions.start
        while at < positions.stop:
            offset = at - number * CHUNK_BYTES
            part = chunk[offset : offset + positions.stop - at]
            await response.write(part)
            at += len(part)
            number += 1
            if at < positions.stop:
                chunk = await self._run(self._store.firmware.chunk, version, number)
        await response.write_eof()

    async def status(self, body: bytes, identity: Identity) -> BaseModel:
        """Publish and store how far an update has come."""
        report = parse(body, contract.OtaStatus)
        update = await self._run(self._store.updates.next, identity.device, report)
        now = utc_now()
        await self._delivery.publish(protocol.ota_status(body, identity.device_id, update.attempt, now))
        changed = await self._run(self._store.updates.save, identity.device, update, now)
        if changed is not None:
            await self._delivery.register(changed, now)
        return contract.OtaRecorded(timestamp=now)


def _offer(image: Firmware | None) -> contract.FirmwareOffer:
    if image is None:
        return contract.FirmwareOffer(update_available=False)
    return contract.FirmwareOffer(
        update_available=True,
        version=image.version,
        checksum=image.checksum,
        size_bytes=image.size_bytes,
        release_notes=image.release_notes,
    )


def _download_response(image: Firmware, start: int, stop: int) -> web.StreamResponse:
    is_part = (start, stop) != (0, image.size_bytes)
    response = web.StreamResponse(status=206 if is_part else 200, headers=_download_headers(image))
    response.content_length = stop - start
    if is_part:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{image.size_bytes}"
    return response


def _download_headers(image: Firmware) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "ETag": f'"{image.checksum}"'}


def _range(request: web.Request, image: Firmware) -> tuple[int, int]:
    """The wanted bytes (RFC 9110, 14): all of them unless the header names a part of this very image."""
    if request.headers.get("If-Range", f'"{image.checksum}"') != f'"{image.checksum}"':
        return 0, image.size_bytes
    try:
        start, stop, _ = request.http_range.indices(image.size_bytes)
    except ValueError:  # unreadable: as if it were not there
        return 0, image.size_bytes
    if start >= stop:
        _refuse_range(image)
    return start, stop


def _refuse_range(image: Firmware) -> NoReturn:
    headers = {"Content-Range": f"bytes */{image.size_bytes}"}
    raise RequestRefused(416, "range_not_satisfiable", "The range lies beyond the end of the firmware", headers)
