"""Measurements of fleetlake and its peers: `make bench`. How each figure is taken is in docs/performance.md."""
