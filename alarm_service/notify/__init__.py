"""Notifications: which alarm events are delivered over which channels, and their delivery until it succeeds."""
