"""When one listener listened: the spans it reports (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.coverage import LAPSE, SPANS_KEPT

Span = tuple[int, int | None]


class SpanLog:
    """The latest spans of one listener, in microseconds; the end of the one under way is None."""

    def __init__(self, spans: Sequence[Span] = (), reported_until: int = 0) -> None:
        self.spans: list[Span] = [*spans]
        self.reported_until = reported_until
        """Up to when a report was acknowledged. What was reported until then does not change."""

    @property
    def is_listening(self) -> bool:
        """Whether a span is under way."""
        return bool(self.spans) and self.spans[-1][1] is None

    def begin(self, at: int) -> bool:
        """Begin to listen; False where it listened already."""
        if self.is_listening:
            return False
        self.spans = [*self.spans[1 - SPANS_KEPT :], (at, None)]
        return True

    def end(self, at: int) -> bool:
        """Listen no more; False where it did not."""
        if not self.is_listening:
            return False
        since = self.spans[-1][0]
        self.spans = [*self.spans[:-1], (since, max(at, since, self.reported_until))]
        return True

    def lapse(self, at: int) -> None:
        """Where the last acknowledged report is too long ago, leave a gap from then on."""
        if self.is_listening and at - self.reported_until > LAPSE:
            self.end(self.reported_until)
            self.begin(at)
