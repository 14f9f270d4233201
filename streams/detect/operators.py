"""The alarm operator of each input topic, as the stream worker and a replay run them (pure)."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.topics import COVERAGE, EVENTS, READINGS
from streams.detect.listening_operator import ListeningOperator
from streams.detect.rule_operator import RuleOperator
from streams.detect.vendor_alarm_operator import VendorAlarmOperator

AnyAlarmOperator = RuleOperator | VendorAlarmOperator | ListeningOperator

OPERATORS: Mapping[str, type[RuleOperator] | type[VendorAlarmOperator] | type[ListeningOperator]] = {
    READINGS: RuleOperator,
    EVENTS: VendorAlarmOperator,
    COVERAGE: ListeningOperator,
}
