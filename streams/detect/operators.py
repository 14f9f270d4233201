"""The alarm operator of each input topic (pure)."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.topics import EVENTS, READINGS
from streams.detect.rule_operator import RuleOperator
from streams.detect.vendor_alarm_operator import VendorAlarmOperator

AnyAlarmOperator = RuleOperator | VendorAlarmOperator

OPERATORS: Mapping[str, type[RuleOperator] | type[VendorAlarmOperator]] = {
    READINGS: RuleOperator,
    EVENTS: VendorAlarmOperator,
}
