"""The HTTP API of the alarm service: every endpoint of `schemas.alarm_api.ENDPOINTS`."""
