"""The `fleetlake` command: one module per group of commands, and how commands print."""
