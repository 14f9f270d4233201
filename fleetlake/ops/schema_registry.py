"""The schemas of the public topics in a schema registry with Confluent's API (Karapace, Apicurio, Confluent's own).

Values stay plain JSON: there is no magic byte, and no consumer needs the registry. It tells catalogues, Kafka Connect
and code generators what is on the topics, and refuses what would break their readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from fleetlake.errors import UserError, reason
from schemas.contract import FOLDER, PUBLIC

_TYPE = "application/vnd.schemaregistry.v1+json"
_SECONDS = 30.0
_NOT_FOUND, _CONFLICT = 404, 409


@dataclass(frozen=True)
class Subject:
    """What was done for a topic's schema."""

    topic: str
    subject: str
    version: int | None
    """None where nothing was registered."""
    state: str
    """registered, unchanged, or in a trial: new, changed."""


@dataclass(frozen=True)
class Registry:
    """Where the registry is. `user` and `password` for basic authentication."""

    url: str
    user: str | None = None
    password: str | None = None


async def register(registry: Registry, topics: Sequence[str] = (), *, trial: bool = False) -> list[Subject]:
    """Register the schema of each topic (default: all public ones) as the subject `<topic>-value`.

    A schema that is registered already is left as it is. `trial` only compares. UserError where the registry cannot be
    reached, or refuses a schema because it breaks those who read by the version before.
    """
    chosen = topics or tuple(PUBLIC)
    unknown = [topic for topic in chosen if topic not in PUBLIC]
    if unknown:
        raise UserError(f"{unknown[0]} is no public topic; those are {', '.join(PUBLIC)}")
    auth = aiohttp.BasicAuth(registry.user, registry.password or "") if registry.user else None
    try:
        async with aiohttp.ClientSession(
            auth=auth, timeout=aiohttp.ClientTimeout(total=_SECONDS), trust_env=True
        ) as session:
            client = _Client(session, registry.url.rstrip("/"))
            return [await _one(client, topic, trial) for topic in chosen]
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        raise UserError(f"the schema registry at {registry.url} does not answer: {reason(error)}") from error


async def _one(client: _Client, topic: str, trial: bool) -> Subject:
    subject = f"{topic}-value"
    schema = (FOLDER / f"{PUBLIC[topic]}.schema.json").read_text(encoding="utf-8")
    body = {"schemaType": "JSON", "schema": schema}
    path = f"/subjects/{quote(subject, safe='')}"
    status, known = await client.post(path, body)
    if status < 300:
        return Subject(topic, subject, int(known["version"]), "unchanged")
    if status != _NOT_FOUND:
        raise _refused(subject, known)
    if trial:
        status, verdict = await client.post(f"/compatibility{path}/versions/latest?verbose=true", body)
        if status == _NOT_FOUND:
            return Subject(topic, subject, None, "new")
        if not verdict.get("is_compatible"):
            raise _refused(subject, verdict)
        return Subject(topic, subject, None, "changed")
    status, made = await client.post(f"{path}/versions", body)
    if status >= 300:
        raise _refused(subject, made)
    _, known = await client.post(path, body)
    return Subject(topic, subject, int(known["version"]), "registered")


def _refused(subject: str, answer: dict[str, Any]) -> UserError:
    words = answer.get("message") or "; ".join(map(str, answer.get("messages", ()))) or "it is not compatible"
    return UserError(f"the registry refuses the schema of {subject}: {words}")


class _Client:
    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and answer. UserError where the registry does not let us in."""
        headers = {"Content-Type": _TYPE, "Accept": _TYPE}
        async with self._session.post(self._url + path, json=body, headers=headers) as response:
            if response.status in (401, 403):
                raise UserError(f"the schema registry at {self._url} refuses the user: {response.status}")
            return response.status, await response.json(content_type=None) or {}
