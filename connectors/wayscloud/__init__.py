"""WAYSCloud: registration, settings, pure protocol, transports."""
