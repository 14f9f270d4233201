"""What a client has set and begun: settings and the state of its transaction. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sql_server.catalog import SETTINGS
from sql_server.commands import Action, Command
from sql_server.errors import BAD_VALUE, FAILED_TRANSACTION, SqlError

REPORTED = (
    *("server_version", "server_encoding", "client_encoding", "application_name", "is_superuser"),
    *("session_authorization", "DateStyle", "IntervalStyle", "TimeZone", "integer_datetimes"),
    *("standard_conforming_strings", "default_transaction_read_only", "in_hot_standby"),
)
"""The settings that are reported at the start and at each change."""

_FIXED = {"TimeZone", "DateStyle", "IntervalStyle", "bytea_output", "server_version", "server_version_num"}
_DURATION = re.compile(r"(\d+)\s*(ms|s|min|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass
class Session:
    """The settings of a client, and whether it is in a transaction."""

    settings: dict[str, str] = field(default_factory=lambda: dict(SETTINGS))
    status: str = "I"
    """I: in no transaction, T: in one, E: in one that has failed."""

    def require_usable(self, command: Command) -> None:
        """SqlError where the transaction has failed and the statement does not end it."""
        if self.status == "E" and command.action not in (Action.COMMIT, Action.ROLLBACK, Action.ACCEPT):
            raise SqlError(
                FAILED_TRANSACTION, "current transaction is aborted, commands ignored until end of transaction block"
            )

    def set(self, name: str, value: str) -> str:
        """Set a setting; returns a remark for the client, if there is one. SqlError for a value that is none."""
        if name == "statement_timeout":
            timeout_seconds(value)
        if name in _FIXED:
            same = value.lower() in (self.settings[name].lower(), "default") or name != "TimeZone"
            return "" if same else f"times are in UTC; TimeZone stays UTC and not {value}"
        self.settings[name] = SETTINGS[name] if value.lower() == "default" else value
        return ""

    def begin(self) -> None:
        """Enter a transaction."""
        if self.status == "I":
            self.status = "T"

    def end(self, command: Command) -> str:
        """Leave the transaction; returns the tag, which is ROLLBACK for one that has failed."""
        failed, self.status = self.status == "E", "I"
        return "ROLLBACK" if failed else command.tag

    def fail(self) -> None:
        """Note an error."""
        if self.status == "T":
            self.status = "E"

    def seconds(self, most: float) -> float:
        """The time limit of a statement: the server's, or less if the client says so."""
        own = timeout_seconds(self.settings["statement_timeout"])
        return min(own, most) if own else most


def timeout_seconds(value: str) -> float:
    """A duration such as `30s`; a number alone is in milliseconds. SqlError for anything else."""
    if value.lower() == "default":
        return 0.0
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise SqlError(BAD_VALUE, f'invalid value for parameter "statement_timeout": "{value}"')
    return int(match[1]) * _SECONDS[match[2] or "ms"]
