"""When one listener listened: the spans it reports (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.coverage import LAPSE, SPANS_KEPT

Span = tuple[int, int | None]


class SpanLog:
    """The spans of one listener, in microseconds; the end of the one under way is None.

    At most `SPANS_KEPT` are kept. For one more, the gap is forgotten that matters least: short for how long ago it was.
    So a long outage is not forgotten for many short ones after it.
    """

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
        while len(self.spans) >= SPANS_KEPT:
            self._forget_a_gap(at)
        self.spans = [*self.spans, (at, None)]
        return True

    def _forget_a_gap(self, now: int) -> None:
        """Join the two spans between which the gap is the shortest for its age."""

        def weight(number: int) -> float:
            until, since = self.spans[number][1] or 0, self.spans[number + 1][0]
            return (since - until) / max(1, now - since)

        number = min(range(len(self.spans) - 1), key=weight)
        joined = (self.spans[number][0], self.spans[number + 1][1])
        self.spans = [*self.spans[:number], joined, *self.spans[number + 2 :]]

    def end(self, at: int) -> bool:
        """Listen no more; False where it did not."""
        if not self.is_listening:
            return False
        since = self.spans[-1][0]
        self.spans = [*self.spans[:-1], (since, max(at, since, self.reported_until))]
        return True

    def lapse(self, at: int) -> None:
        """Where the last acknowledged report is too long ago, leave a gap from then on.

        A span that had only begun when it was reported last is part of the gap, so that one of many lapses is one.
        """
        if not self.is_listening or at - self.reported_until <= LAPSE:
            return
        if len(self.spans) > 1 and self.spans[-1][0] >= self.reported_until:
            self.spans = self.spans[:-1]
        else:
            self.end(self.reported_until)
        self.begin(at)
