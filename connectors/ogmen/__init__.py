"""Ogmen: registration, settings, pure protocol, transports."""
