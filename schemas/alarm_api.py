"""The HTTP API of alarms and rules: WAYSCloud's paths, parameters and answers (its API document, «Alarms», «Rules»).

Answers hold the documented fields, followed by the further fields of our alarms. Device ids are ours
(`vendor:native-id`). The document does not define errors, `DELETE` (204), `snooze` and the limits of a page; these are
assumed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, Field
from pydantic.json_schema import models_json_schema

from schemas import notify_api
from schemas.records import AlarmEventType, AlarmRule, RuleType
from schemas.words import AlarmStatus, KeyRole, Severity

VERSION = "1.0.0"
PAGE_SIZE, MAX_PAGE_SIZE = 50, 500
MAX_NOTE_CHARS = 4000


class _Body(BaseModel):
    """A body. Unknown members are ignored."""


class Error(_Body):
    """Why a request is refused."""

    error: str = Field(description="A code.", examples=["not_found"])
    message: str


class AlarmListed(_Body):
    """An alarm in the list of alarms."""

    id: str
    device_id: str
    severity: Severity
    title: str
    status: AlarmStatus
    triggered_at: datetime
    occurrence_count: int
    vendor: str
    rule_id: str
    flapping: bool


class AlarmPage(_Body):
    """One page of the matching alarms, latest first."""

    alarms: list[AlarmListed]
    total: int = Field(description="Number of all matching alarms, on this page or not.")
    page: int
    page_size: int


class AlarmDetail(_Body):
    """The current state of an alarm."""

    id: str
    device_id: str
    rule_id: str
    rule_name: str
    severity: Severity
    title: str
    message: str
    status: AlarmStatus
    triggered_at: datetime
    occurrence_count: int
    acknowledged_at: datetime | None
    resolved_at: datetime | None
    created_at: datetime
    vendor: str
    metric: str | None
    last_triggered_at: datetime
    snoozed_until: datetime | None
    flapping: bool


class ActionPending(AlarmDetail):
    """The current state of the alarm. The action is stored in Kafka and will be carried out, but has not been yet."""

    pending: str = Field(description="What is still to happen, for a human reader.")


class TimelineEntry(_Body):
    """What happened to an alarm."""

    id: int = Field(description="1, 2, 3… per alarm.")
    event_id: str
    event_type: AlarmEventType
    actor: str = Field(description="`rule_engine`, `vendor`, or the name of the API key that acted.")
    note: str | None
    metadata: dict[str, Any] | None
    created_at: datetime


class AlarmSummary(_Body):
    """Numbers of alarms."""

    by_status: dict[AlarmStatus, int]
    by_severity: dict[Severity, int] = Field(description="Numbers of open alarms.")
    active_total: int = Field(description="Number of open alarms: active or acknowledged.")


class ActionRequest(_Body):
    """An action on an alarm; the note becomes part of its timeline."""

    note: str | None = Field(default=None, max_length=MAX_NOTE_CHARS)


class SnoozeRequest(ActionRequest):
    """Until when notifications are held back."""

    until: AwareDatetime


class RuleListed(_Body):
    """A rule in the list of rules."""

    id: str
    name: str
    rule_type: RuleType
    severity: Severity
    is_enabled: bool


class RuleList(_Body):
    """All rules, by id."""

    rules: list[RuleListed]


@dataclass(frozen=True)
class Endpoint:
    """One operation. `body` and `answer` name schemas; `status` is the HTTP status of success."""

    name: str
    method: str
    path: str
    summary: str
    answer: str | None
    body: str | None = None
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    refusals: tuple[int, ...] = ()
    status: int = 200
    role: KeyRole = KeyRole.READ


_ALARM = "/v1/iot/alarms/{alarm_id}"
_RULE = "/v1/iot/rules/{rule_id}"
_NOTIFY = "/v1/iot/notifications"
_CHANNEL = f"{_NOTIFY}/channels/{{channel_id}}"
_WHICH: dict[str, dict[str, Any]] = {
    "status": {"schema": {"enum": [status.value for status in AlarmStatus]}},
    "severity": {"schema": {"enum": [severity.value for severity in Severity]}},
    "device_id": {
        "schema": {"type": "string"},
        "description": "`vendor:native-id`; an id without a vendor is WAYSCloud's.",
    },
    "rule_id": {"schema": {"type": "string"}},
    "page": {"schema": {"type": "integer", "minimum": 1, "default": 1}},
    "page_size": {"schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE, "default": PAGE_SIZE}},
}
ACTIONS = ("acknowledge", "resolve", "reopen", "snooze")

IDEMPOTENCY_KEY = "Idempotency-Key"
MAX_IDEMPOTENCY_CHARS = 255
_IDEMPOTENCY: dict[str, Any] = {
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_CHARS},
    "description": "A key of your choice for this request. If the request is repeated with the same key, for example "
    "after a 503, the action is carried out once.",
}

ENDPOINTS = (
    Endpoint("list_alarms", "get", "/v1/iot/alarms", "List alarms", "AlarmPage", query=_WHICH, refusals=(400,)),
    Endpoint("alarm_summary", "get", "/v1/iot/alarms/summary", "Count alarms", "AlarmSummary"),
    Endpoint("read_alarm", "get", _ALARM, "Read an alarm", "AlarmDetail", refusals=(404,)),
    Endpoint("read_timeline", "get", f"{_ALARM}/timeline", "Read an alarm's timeline", "Timeline", refusals=(404,)),
    *(
        Endpoint(
            action,
            "post",
            f"{_ALARM}/{action}",
            f"{action.capitalize()} an alarm",
            "AlarmDetail",
            "SnoozeRequest" if action == "snooze" else "ActionRequest",
            refusals=(202, 400, 404, 409, 413),
            role=KeyRole.OPERATE,
        )
        for action in ACTIONS
    ),
    Endpoint("list_rules", "get", "/v1/iot/rules", "List rules, without config", "RuleList"),
    Endpoint(
        "create_rule",
        "post",
        "/v1/iot/rules",
        "Create a rule",
        "AlarmRule",
        "NewRule",
        refusals=(400, 409, 413),
        status=201,
        role=KeyRole.ADMIN,
    ),
    Endpoint("read_rule", "get", _RULE, "Read a rule", "AlarmRule", refusals=(404,)),
    Endpoint(
        "update_rule",
        "put",
        _RULE,
        "Update a rule; objects are merged deeply",
        "AlarmRule",
        "RuleChanges",
        refusals=(400, 404, 413),
        role=KeyRole.ADMIN,
    ),
    Endpoint("delete_rule", "delete", _RULE, "Delete a rule", None, refusals=(404,), status=204, role=KeyRole.ADMIN),
    *(
        Endpoint(name, "post", f"{_RULE}/{name}", purpose, "AlarmRule", refusals=(404,), role=KeyRole.ADMIN)
        for name, purpose in (("enable", "Enable a rule"), ("disable", "Disable a rule"))
    ),
    Endpoint("list_channels", "get", f"{_NOTIFY}/channels", "List notification channels", "ChannelList"),
    Endpoint("read_channel", "get", _CHANNEL, "Read a channel", "ChannelDetail", refusals=(404,)),
    Endpoint(
        "test_channel",
        "post",
        f"{_CHANNEL}/test",
        "Send a test notification",
        "TestSent",
        refusals=(404,),
        role=KeyRole.OPERATE,
    ),
    Endpoint("list_policies", "get", f"{_NOTIFY}/policies", "List notification policies", "PolicyList"),
    Endpoint(
        "read_policy", "get", f"{_NOTIFY}/policies/{{policy_id}}", "Read a policy", "PolicyDetail", refusals=(404,)
    ),
    Endpoint(
        "list_deliveries",
        "get",
        f"{_NOTIFY}/deliveries",
        "List deliveries",
        "DeliveryList",
        query=notify_api.query_parameters(),
        refusals=(400,),
    ),
)
"""All operations of the API."""

_MODELS: tuple[type[BaseModel], ...] = (
    Error,
    AlarmPage,
    AlarmDetail,
    ActionPending,
    TimelineEntry,
    AlarmSummary,
    RuleList,
    AlarmRule,
    *notify_api.MODELS,
)
_REFUSALS = {
    400: "The request is malformed. The message names the field.",
    401: "Invalid or missing API key.",
    403: "The role of the key does not allow this. The message names the role that does.",
    404: "There is no object with this id.",
    409: "The state or age of the alarm does not allow this, or a rule with this id exists already.",
    413: "The body is too large.",
    503: "Try again later.",
}
_REFUSED_ANYWHERE = (401, 503)
_OURS = ("severity_original", "source", "created_at", "updated_at")
"""Fields of a rule that only the service writes."""


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    pairs: list[tuple[type[BaseModel], Any]] = [(model, "serialization") for model in _MODELS]
    pairs += [(ActionRequest, "validation"), (SnoozeRequest, "validation")]
    _, definitions = models_json_schema(pairs, ref_template="#/components/schemas/{model}")
    schemas = definitions["$defs"]
    schemas["Timeline"] = {"type": "array", "items": {"$ref": "#/components/schemas/TimelineEntry"}}
    schemas["NewRule"] = _rule_schema(schemas["AlarmRule"], required=("name", "rule_type", "config"))
    schemas["RuleChanges"] = _rule_schema(schemas["AlarmRule"], without=("id", "rule_type"))
    operations: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        operations.setdefault(endpoint.path, {})[endpoint.method] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fleetlake alarms",
            "version": VERSION,
            "description": "Alarms and rules. A 2xx answer means that the request is stored durably in Kafka. Each key "
            "has a role: `read` may read, `operate` may also act on alarms, `admin` may also change rules.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"apiKey": []}, {"bearer": []}],
        "paths": operations,
        "components": {
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer", "description": "The same key."},
            },
            "schemas": dict(sorted(schemas.items())),
        },
    }


def _rule_schema(rule: Mapping[str, Any], required: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> Any:
    """The writable part of a rule, derived from its own schema so that both stay equal."""
    schema = copy.deepcopy({name: part for name, part in rule.items() if name not in ("required", "title")})
    for name in (*_OURS, *without):
        del schema["properties"][name]
    if required:
        schema["required"] = list(required)
    else:
        for part in schema["properties"].values():
            part.pop("default", None)
    schema["description"] = "A rule to create." if required else "The fields to change; others keep their values."
    return schema


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "description": f"Requires a key with the role {_roles_for(endpoint.role)}.",
    }
    parameters = [{"name": name, "in": "query", **about} for name, about in endpoint.query.items()]
    for name in ("alarm_id", "rule_id", "channel_id", "policy_id"):
        if f"{{{name}}}" in endpoint.path:
            parameters.append({"name": name, "in": "path", "required": True, "schema": {"type": "string"}})
    if endpoint.name in ACTIONS:
        parameters.append({"name": IDEMPOTENCY_KEY, "in": "header", **_IDEMPOTENCY})
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        operation["requestBody"] = {"required": endpoint.body != "ActionRequest", "content": _json(endpoint.body)}
    done: dict[str, Any] = {"description": endpoint.summary if endpoint.answer else "The rule is deleted."}
    if endpoint.answer is not None:
        done["content"] = _json(endpoint.answer)
    operation["responses"] = {str(endpoint.status): done} | {
        str(status): _refusal(status)
        for status in sorted({*endpoint.refusals, *_REFUSED_ANYWHERE, *_by_role(endpoint)})
    }
    return operation


def _by_role(endpoint: Endpoint) -> tuple[int, ...]:
    return () if endpoint.role is KeyRole.READ else (403,)


def _roles_for(needed: KeyRole) -> str:
    return " or ".join(f"`{role}`" for role in KeyRole if role.may(needed))


def _refusal(status: int) -> dict[str, Any]:
    if status == 202:
        what = "The action is stored in Kafka, but has not been carried out yet."
        return {"description": what, "content": _json("ActionPending")}
    answer: dict[str, Any] = {"description": _REFUSALS[status], "content": _json("Error")}
    if status == 503:
        answer["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return answer


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
