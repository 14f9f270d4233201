"""What ends a stage for a known reason."""


class StageError(RuntimeError):
    """The stage cannot go on without its operator (a port that is taken, a database of another version). The text says
    what to do.
    """
