"""What can be wrong with the service as a whole."""

from __future__ import annotations


class AlarmServiceError(RuntimeError):
    """The service cannot go on without its operator; the message says what to do."""
