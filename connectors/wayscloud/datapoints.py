"""The account's datapoint definitions."""

from __future__ import annotations

from connectors.common.state_file import StateFile
from connectors.wayscloud import objects
from connectors.wayscloud.api import WayscloudApi
from connectors.wayscloud.objects import Datapoint


class DatapointDefinitions:
    """The definitions by name. They are kept over restarts, since packets arrive before REST has answered."""

    def __init__(self, file: StateFile) -> None:
        self._file = file
        self.by_name: dict[str, Datapoint] = {}
        for name, fields in file.read().items():
            if isinstance(fields, dict):
                self.by_name[name] = Datapoint(*(str(fields.get(key, "")) for key in ("id", "unit", "type")))

    async def read(self, api: WayscloudApi) -> None:
        """Read all definitions; one by one where the list leaves out unit or type. VendorError or ValueError."""
        definitions: dict[str, Datapoint] = {}
        for item in await api.items("datapoints"):
            if "unit" not in item or "data_type" not in item:
                item |= await api.read("datapoints", str(item["id"]))
            if (named := objects.datapoint(item)) is not None:
                definitions[named[0]] = named[1]
        if definitions != self.by_name:
            self.by_name.clear()  # in place: the inbox has it
            self.by_name.update(definitions)
            self._file.write({name: {"id": d.id, "unit": d.unit, "type": d.type} for name, d in definitions.items()})

    def used_in(self, rule: bytes) -> dict[str, dict[str, str]]:
        """The definitions that a rule names, by id: a rule names its datapoint by id, and readings name it by name."""
        by_id = {d.id: {"name": name, "unit": d.unit, "type": d.type} for name, d in self.by_name.items()}
        return {identity: facts for identity, facts in by_id.items() if identity.encode() in rule}
