"""The alarm service: alarms and rules over HTTP, from a store of its own that follows the topics."""
