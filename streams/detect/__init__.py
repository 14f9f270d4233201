"""Alarm detection: rules over readings, vendors' own alarms, their life cycle, and the operators that run them."""
