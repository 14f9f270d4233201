"""What ends a vendor's connector for a known reason."""


class ConnectorError(RuntimeError):
    """The connector cannot work as things are (a port that is taken, a missing setting). The text says what to do."""
