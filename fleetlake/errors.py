"""Errors that a user can correct: shown as one line, without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can correct. The message states what is wrong and what to do next."""
