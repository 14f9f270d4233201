"""Ogmen's cloud and its ORo robots, simulated."""

from simulators.ogmen.cloud import OgmenCloud

__all__ = ["OgmenCloud"]
