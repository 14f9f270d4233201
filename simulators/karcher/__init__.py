"""The Kärcher External IoT API, simulated."""

from simulators.karcher.cloud import KarcherCloud

__all__ = ["KarcherCloud"]
