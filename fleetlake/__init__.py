"""fleetlake: telemetry of mixed fleets, from vendors' clouds through Kafka into Delta Lake and DuckDB.

The public import: `fleetlake.connect()` opens the published tables, `fleetlake.scan()` reads the lake with Polars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleetlake.api import connect as connect
    from fleetlake.api import scan as scan

__version__ = "0.1.0"
__all__ = ["connect", "scan"]


def __getattr__(name: str) -> Any:
    # Lazily, so that the command starts without loading DuckDB and Polars.
    if name in __all__:
        from fleetlake import api

        return getattr(api, name)
    raise AttributeError(f"module 'fleetlake' has no attribute {name!r}")
