"""Errors that a user can correct: shown as one line, without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can correct. The message states what is wrong and what to do next."""


def reason(error: Exception) -> str:
    """What is wrong with a file or connection, in words of this program rather than Python's."""
    match error:
        case UnicodeDecodeError():
            return "not a text in UTF-8"
        case OSError() if error.strerror:
            return error.strerror[0].lower() + error.strerror[1:]
        case _:
            return str(error) or type(error).__name__


def file_reason(error: OSError) -> str:
    """The file, where the error names one, and what is wrong with it."""
    return f"{error.filename}: {reason(error)}" if error.filename else reason(error)
