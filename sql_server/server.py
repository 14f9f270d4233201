"""The SQL server as a process: it listens, signs clients in, and cancels what they ask it to."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from alarm_service.settings import AlarmsSettings
from alarm_service.store.database import AlarmDatabase, alarm_database
from runtime.errors import StageError
from runtime.health import Health
from sinks.duckdb.confinement import QueryLimits
from sql_server import catalog, protocol
from sql_server.client import Client
from sql_server.errors import (
    NO_AUTHORIZATION,
    NO_SUCH_DATABASE,
    PROTOCOL,
    SHUTTING_DOWN,
    TOO_MANY_CONNECTIONS,
    WRONG_KEY,
    SqlError,
)
from sql_server.processes import QueryProcesses
from sql_server.session import REPORTED, Session
from sql_server.settings import SqlSettings
from sql_server.wire import MOST_BYTES, Wire
from sql_server.worker import Connect

_log = logging.getLogger(__name__)

_SIGN_IN_SECONDS = 20.0
_WRONG_KEY_SECONDS = 1.0
_VERIFY_SECONDS = 60.0

FindKey = Callable[[str], Awaitable[str | None]]
"""The name of a key's holder; None if the key is not in force."""


@dataclass(frozen=True)
class SqlServerConfig:
    """What the server is configured with. `connect` opens the published tables of the data folder."""

    settings: SqlSettings
    alarms: AlarmsSettings
    data: Path
    connect: Connect


async def run_sql_server(config: SqlServerConfig, stop: asyncio.Event, health: Health) -> None:
    """Serve until `stop`. StageError where the port is taken, or settings would let strangers in."""
    settings = config.settings
    require_safe(settings)
    keys = await asyncio.to_thread(alarm_database, config.alarms, config.data) if settings.sign_in else None
    limits = QueryLimits(settings.query_seconds, settings.query_rows, settings.query_megabytes)
    processes = QueryProcesses(config.connect, config.data, limits, settings.processes)
    server = SqlServer(settings, processes, _KeyFinder(keys) if keys else None, _tls(settings))
    try:
        listening = await asyncio.start_server(server.connected, settings.host, settings.port, backlog=128)
    except OSError as error:
        raise StageError(f"[sql] cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
    host, port = listening.sockets[0].getsockname()[:2]
    _log.info("sql: postgresql://%s:%s/%s", host, port, catalog.DATABASE)
    try:
        async with listening:
            await stop.wait()
    finally:
        server.stop()
        processes.close()
        if keys is not None:
            keys.close()


def require_safe(settings: SqlSettings) -> None:
    """StageError where strangers could come in, or keys could be read on the network."""
    if _is_loopback(settings.host):
        return
    if not settings.sign_in:
        raise StageError(f"[sql] sign_in = false needs a loopback address as host, not {settings.host}")
    if settings.tls_certificate is None and not settings.allow_plaintext:
        raise StageError(
            f"[sql] host = {settings.host} needs tls_certificate and tls_key, since keys are sent as passwords; "
            "allow_plaintext = true is for networks between containers, and behind a proxy that ends TLS"
        )


def _tls(settings: SqlSettings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise StageError(f"[sql] tls_certificate, tls_key: cannot be read: {error}") from error
    return context


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _KeyFinder:
    """Looks keys up in the alarm service's database, in a thread."""

    def __init__(self, keys: AlarmDatabase) -> None:
        self._keys = keys

    async def __call__(self, key: str) -> str | None:
        info = await asyncio.to_thread(self._keys.keys.find, key)
        return None if info is None else info.name


@dataclass
class _Holder:
    """The key that a client has signed in with; one that is revoked ends the session within a minute."""

    find: FindKey
    key: str
    verified: float = field(default_factory=time.monotonic)

    async def verify(self) -> None:
        if time.monotonic() - self.verified >= _VERIFY_SECONDS:
            if await self.find(self.key) is None:
                raise SqlError(WRONG_KEY, "the key is no longer in force")
            self.verified = time.monotonic()


class SqlServer:
    """Takes connections. Each has a task of its own."""

    def __init__(
        self, settings: SqlSettings, processes: QueryProcesses, find: FindKey | None, tls: ssl.SSLContext | None
    ) -> None:
        self._settings, self._processes, self._find, self._tls = settings, processes, find, tls
        self._clients: dict[tuple[int, int], Client] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._number = 0

    def stop(self) -> None:
        """End all sessions."""
        for task in self._tasks:
            task.cancel()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        wire = Wire(reader, writer)
        try:
            await self._serve(wire, writer)
        except SqlError as error:
            await _farewell(wire, error)
        except asyncio.CancelledError:
            await _farewell(wire, SqlError(SHUTTING_DOWN, "the server stops"))
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the client left, or was too slow to sign in
        finally:
            self._tasks.discard(task)
            await wire.close()

    async def _serve(self, wire: Wire, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_SIGN_IN_SECONDS):
            parameters = await self._greeted(wire, writer)
            if parameters is None:
                return
            if len(self._tasks) > self._settings.max_connections:
                raise SqlError(TOO_MANY_CONNECTIONS, "sorry, too many clients already")
            session = _session(parameters)
            holder = await self._sign_in(wire)
        number, secret = self._next_number(), secrets.randbits(32)
        client = Client(wire, session, self._processes, holder.verify if holder else _nothing)
        self._clients[number, secret] = client
        try:
            wire.most_bytes = MOST_BYTES
            wire.write(protocol.AUTHENTICATION_OK)
            for name in REPORTED:
                wire.write(protocol.parameter_status(name, session.settings[name]))
            wire.write(protocol.backend_key(number, secret) + protocol.ready("I"))
            await wire.flush()
            await client.serve()
        finally:
            del self._clients[number, secret]

    async def _greeted(self, wire: Wire, writer: asyncio.StreamWriter) -> dict[str, str] | None:
        """The parameters of the startup message; None after a cancel request. Answers requests for encryption."""
        encrypted = False
        while True:
            code, content = await wire.read_startup()
            if code == protocol.CANCEL_REQUEST:
                self._cancel(content)
                return None
            if code == protocol.SSL_REQUEST and not encrypted:
                writer.write(b"S" if self._tls else b"N")
                await writer.drain()
                if self._tls:
                    await writer.start_tls(self._tls)
                    encrypted = True
            elif code == protocol.GSS_REQUEST:
                writer.write(b"N")
                await writer.drain()
            elif code >> 16 == protocol.VERSION_3 >> 16:
                self._require_encryption(writer, encrypted)
                return protocol.read_startup(content)
            else:
                raise SqlError(PROTOCOL, f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}")

    def _require_encryption(self, writer: asyncio.StreamWriter, encrypted: bool) -> None:
        peer = writer.get_extra_info("peername")
        if not encrypted and not self._settings.allow_plaintext and not _is_loopback(str(peer[0])):
            raise SqlError(NO_AUTHORIZATION, "connect with TLS (sslmode=require): the key is sent as password")

    async def _sign_in(self, wire: Wire) -> _Holder | None:
        if self._find is None:
            return None
        wire.write(protocol.ASK_PASSWORD)
        await wire.flush()
        answer = await wire.read()
        if answer is None or answer[0] != b"p":
            raise SqlError(NO_AUTHORIZATION, "a password is needed: a key of `fleetlake alarms keys create`")
        key = protocol.Reader(answer[1]).string()
        if await self._find(key) is None:
            await asyncio.sleep(_WRONG_KEY_SECONDS)
            raise SqlError(WRONG_KEY, "the password is no key in force; `fleetlake alarms keys create` makes one")
        return _Holder(self._find, key)

    def _cancel(self, content: bytes) -> None:
        number, secret = protocol.Reader(content).numbers("iI")
        for (known, known_secret), client in self._clients.items():
            if known == number and hmac.compare_digest(known_secret.to_bytes(4), secret.to_bytes(4)):
                client.running.cancel()

    def _next_number(self) -> int:
        self._number = self._number % 0x7FFF_FFFF + 1
        return self._number


def _session(parameters: dict[str, str]) -> Session:
    """A session with what the startup message sets. SqlError where it names another database."""
    database = parameters.get("database", parameters.get("user", ""))
    if database != catalog.DATABASE:
        raise SqlError(NO_SUCH_DATABASE, f'database "{database}" does not exist; the database is "{catalog.DATABASE}"')
    session = Session()
    session.settings["session_authorization"] = parameters.get("user", "")
    for name, value in parameters.items():
        known = {setting.lower(): setting for setting in session.settings}.get(name.lower())
        if known is not None:
            session.set(known, value)
    return session


async def _nothing() -> None:
    """Without sign-in no key can be revoked."""


async def _farewell(wire: Wire, error: SqlError) -> None:
    wire.write(protocol.error_response(error, "FATAL"))
    with contextlib.suppress(ConnectionError, TimeoutError):
        await asyncio.wait_for(wire.flush(), 1.0)
