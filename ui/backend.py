"""What the endpoints work with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ui.ask.processes import QueryProcesses
from ui.live.hub import Hub
from ui.live.reader import TopicReader
from ui.settings import UiSettings
from ui.stages import Stages
from ui.tables import PublishedTables
from ui.tools import UiTools


@dataclass(frozen=True)
class Backend:
    """The parts of the live page that endpoints share."""

    settings: UiSettings
    tables: PublishedTables
    hub: Hub
    reader: TopicReader
    stages: Stages
    queries: QueryProcesses
    groups: Mapping[str, Sequence[str]]
    """Device ids by the name of their group, as configured."""
    tools: UiTools
