"""Notifications: who is told of which alarm event, over which channel, until it has arrived."""
