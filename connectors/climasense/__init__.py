"""ClimaSense: registration, settings, pure protocol, transports."""
