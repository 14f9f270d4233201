"""The alarm service's database: alarms with their timelines, rules, API keys."""
