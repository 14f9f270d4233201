"""The command under `python -m fleetlake`: how the supervisor starts its stages, whatever the PATH."""

from fleetlake.cli.main import main

main()
