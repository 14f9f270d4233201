"""What the simulated Kärcher cloud does wrong on purpose."""

from dataclasses import dataclass, field

from aiohttp import web

from simulators.karcher.answers import problem


@dataclass
class Misbehaviour:
    """What the cloud does wrong, as its document warns; may be changed while it runs."""

    answers: dict[str, int] = field(default_factory=dict)
    """HTTP status by endpoint, in place of an answer: ``token``, ``socket``, or a REST path below the base path."""
    retry_after: float | None = None
    """``Retry-After`` of these answers, in seconds."""
    poison: str | None = None
    """A machine id for which a whole request of statuses is refused with 400."""
    bare_details: bool = False
    """Details of executions come without ``data`` around them; the document shows both."""
    refuse_tokens: bool = False
    """Every token is refused with 401, however fresh."""

    def answer(self, endpoint: str) -> web.Response | None:
        """The answer that replaces the endpoint's own, if there is one."""
        status = self.answers.get(endpoint)
        message = {400: "invalid_parameter", 403: "forbidden"}.get(status or 0, "internal_error")
        return None if status is None else problem(status, message, self.retry_after)
