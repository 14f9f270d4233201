"""The machines of the simulated account, with the faults planted on them."""

from collections.abc import Collection, Mapping

from simulators import faults
from simulators.faults import DeviceFaults, Record, Target
from simulators.fleet import Job
from simulators.karcher import payloads
from simulators.karcher.answers import NotFound
from simulators.karcher.payloads import Machine
from simulators.settings import SimulatorSettings


class MachineFleet:
    """The machines by id and by name; ``record`` takes what is planted.

    Only robots that are not retired send messages and have faults.
    """

    def __init__(self, settings: SimulatorSettings, record: Record) -> None:
        self.machines = payloads.build_fleet(settings.seed, settings.karcher.devices, settings.cycle_seconds)
        self._by_id = {machine.machine_id: machine for machine in self.machines}
        self._by_name = {(machine.material, machine.serial): machine for machine in self.machines}
        self._robots = {m.native_id: m for m in self.machines if m.family != "other" and not m.retired}
        targets = [Target(native_id, ("battery.level",)) for native_id in self._robots]
        plans = faults.plan(settings.seed, "karcher", targets, settings.faults)
        self._faults = {
            native_id: DeviceFaults("karcher", f"karcher:{native_id}", plans[native_id], record)
            for native_id in self._robots
        }

    @property
    def faults(self) -> Mapping[str, DeviceFaults]:
        """The planted faults of each robot, by native id."""
        return self._faults

    @property
    def robots(self) -> list[Machine]:
        """The robots that send messages."""
        return list(self._robots.values())

    def with_id(self, machine_id: str) -> Machine | None:
        """The machine of this id, if the account has it."""
        return self._by_id.get(machine_id)

    def named(self, material: str, serial: str) -> Machine:
        """The machine of this name. NotFound where the account does not have it."""
        try:
            return self._by_name[material, serial]
        except KeyError as error:
            raise NotFound from error

    def robot(self, native_id: str) -> Machine:
        """The robot of this native id, also after it was unregistered. KeyError for any other machine."""
        return self._robots[native_id]

    def jobs(self, machine_ids: Collection[str] | None, since: float, until: float) -> list[tuple[Machine, Job]]:
        """The jobs that robots (all, or those of these ids) finished in a time."""
        return [
            (machine, job)
            for machine in self.machines
            if machine.native_id in self._faults and (machine_ids is None or machine.machine_id in machine_ids)
            for job in machine.robot.jobs(since, until)
        ]

    def register(self, machine: Machine) -> None:
        """Add a robot to the account. No faults are planted on it."""
        self.machines.append(machine)
        self._by_id[machine.machine_id] = machine
        self._by_name[machine.material, machine.serial] = machine
        self._robots[machine.native_id] = machine
        self._faults[machine.native_id] = DeviceFaults(
            "karcher", f"karcher:{machine.native_id}", faults.DevicePlan(), lambda line: None
        )

    def unregister(self, machine: Machine) -> None:
        """Take a machine out of the account. An open socket stays open, since the document says nothing of it."""
        self.machines.remove(machine)
        del self._by_id[machine.machine_id], self._by_name[machine.material, machine.serial]
