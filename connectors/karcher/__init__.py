"""Kärcher: registration, settings, pure protocol, transports."""
