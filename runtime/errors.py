"""The error that ends a stage for a known reason."""


class StageError(RuntimeError):
    """The stage cannot continue without its operator, who has to free a port, say. The text says what to do."""
