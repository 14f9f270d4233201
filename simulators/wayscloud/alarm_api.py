"""WAYSCloud's REST for rules, alarms and notifications."""

from collections.abc import Iterator

from aiohttp import web

from simulators.net import Clock
from simulators.settings import SimulatorSettings
from simulators.wayscloud import payloads
from simulators.wayscloud.account import Account
from simulators.wayscloud.answers import ALARM_PAGE_SIZE, Handler, Paging, fixed, listing, not_found, one, problem
from simulators.wire import rfc3339

_BRIEF_RULE = ("id", "name", "rule_type", "severity", "is_enabled")
_FILTERS = ("status", "severity", "device_id", "rule_id")


class AlarmApi:
    """Answers requests about rules and alarms; what is changed is kept in memory."""

    def __init__(self, account: Account, settings: SimulatorSettings, clock: Clock) -> None:
        self._account = account
        self._clock = clock
        self._paging = Paging("alarms", ALARM_PAGE_SIZE, flaw=settings.wayscloud.paging)

    def routes(self) -> Iterator[tuple[str, str, Handler]]:
        """Method, path and handler of each operation."""
        account = self._account
        yield "GET", "/rules", listing("rules", account.rules, _BRIEF_RULE)
        yield "GET", "/rules/{id}", one(account.rules)
        yield "POST", "/rules/{id}/enable", self._switch_rule(enabled=True)
        yield "POST", "/rules/{id}/disable", self._switch_rule(enabled=False)
        yield "GET", "/alarms", self._list
        yield "GET", "/alarms/summary", self._summary
        yield "GET", "/alarms/{id}", one(account.alarms)
        yield "GET", "/alarms/{id}/timeline", self._timeline
        yield "POST", "/alarms/{id}/acknowledge", self._change("acknowledged")
        yield "POST", "/alarms/{id}/resolve", self._change("resolved")
        yield "POST", "/alarms/{id}/reopen", self._change("active")
        yield "GET", "/notifications/channels", fixed({"channels": []})
        yield "GET", "/notifications/policies", fixed({"policies": []})
        yield "GET", "/notifications/deliveries", self._deliveries

    def _switch_rule(self, *, enabled: bool) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            rule = self._account.rules.get(request.match_info["id"])
            if rule is None:
                return not_found()
            rule |= {"is_enabled": enabled, "updated_at": rfc3339(self._clock())}
            return web.json_response(rule)

        return handler

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query
        alarms = [
            payloads.alarm_brief(alarm)
            for alarm in self._account.alarms.values()
            if all(query.get(key, alarm[key]) == alarm[key] for key in _FILTERS)
        ]
        return self._paging.answer(request, alarms)

    async def _summary(self, request: web.Request) -> web.Response:
        statuses = [alarm["status"] for alarm in self._account.alarms.values()]
        severities = [alarm["severity"] for alarm in self._account.alarms.values()]
        by_status = {status: statuses.count(status) for status in ("active", "acknowledged", "resolved")}
        return web.json_response(
            {
                "by_status": by_status,
                "by_severity": {severity: severities.count(severity) for severity in ("critical", "warning", "info")},
                "active_total": by_status["active"] + by_status["acknowledged"],
            }
        )

    async def _timeline(self, request: web.Request) -> web.Response:
        alarm = self._account.alarms.get(request.match_info["id"])
        return web.json_response(payloads.timeline(alarm)) if alarm else not_found()

    def _change(self, status: str) -> Handler:
        field = {"acknowledged": "acknowledged_at", "resolved": "resolved_at"}.get(status)

        async def handler(request: web.Request) -> web.Response:
            alarm = self._account.alarms.get(request.match_info["id"])
            if alarm is None:
                return not_found()
            stamps = {field: rfc3339(self._clock())} if field else {"resolved_at": None}
            alarm |= {"status": status} | stamps
            return web.json_response(alarm)

        return handler

    async def _deliveries(self, request: web.Request) -> web.Response:
        """Paged by limit and offset, unlike the other lists. Deliveries name no device."""
        try:
            limit, offset = int(request.query.get("limit", 50)), int(request.query.get("offset", 0))
        except ValueError:
            return problem(422, "limit and offset are whole numbers")
        deliveries = payloads.deliveries(self._account.seed, list(self._account.alarms.values()))
        return web.json_response(
            {
                "deliveries": deliveries[offset : offset + limit],
                "total": len(deliveries),
                "limit": limit,
                "offset": offset,
            }
        )
