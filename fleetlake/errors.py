"""Errors a user can do something about: shown as one line, without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend; the message says what is wrong and what to do next."""
