"""The registered vendors: the built-in ones, and those that installed packages add by entry points.

A vendor is one `VendorSpec`. Its parts are references (`package.module:attribute`), so that this module, which stands
below connectors, streams and simulators, imports none of them, and a process imports only the parts that it uses.
Nothing is imported or looked up before the first question; the answers are kept for the life of the process
(docs/adr/0021-vendor-registration.md).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "fleetlake.vendors"
"""The entry-point group. An entry's name is the vendor's name, its value the `VendorSpec`."""

BUILT_IN = ("karcher", "ogmen", "wayscloud", "climasense")
"""The vendors of this repository: `connectors/<name>/vendor.py` holds the `SPEC` of each."""

RESERVED = frozenset(
    {"alarms", "all", "broker", "fleetlake", "kafka", "notify", "pipeline", "simulate", "sink", "stream", "unknown"}
)
"""Names that mean something else: sections of the configuration, and words of the command line and of metrics."""

Part = Literal[
    "settings",
    "connector",
    "check",
    "normaliser",
    "metrics",
    "alarms",
    "simulator",
    "simulator_settings",
    "reprocessor",
]

_REQUIRED: tuple[Part, ...] = ("settings", "connector", "check", "normaliser", "metrics")
_OPTIONAL: tuple[Part, ...] = ("alarms", "simulator", "simulator_settings", "reprocessor")
_NAME = re.compile(r"[a-z][a-z0-9]*")
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class RegistrationError(Exception):
    """A vendor's registration is wrong. The message names the package, the vendor, and what to correct."""


@dataclass(frozen=True)
class BackfillTypes:
    """The message types of a vendor whose stored telemetry is read after an outage."""

    live: str
    """The type of what comes while the connection stands."""
    stored: str
    """The type of what is read afterwards; its envelopes have the attributes of `schemas.envelope.BackfillWindow`."""


@dataclass(frozen=True, kw_only=True)
class VendorSpec:
    """The registration of one vendor. Each part is a reference, `package.module:attribute`; `load` resolves it."""

    name: str
    """Lower-case letters and digits: the prefix of device ids, the section of the configuration, and
    `telemetry.raw.<name>.v1`."""
    settings: str
    """The pydantic model of the configuration section `[<name>]`. Every key has a default."""
    connector: str
    """A class made of the settings and a `connectors.common.context.Context`, with `async run()`."""
    check: str
    """`async check(settings, state_dir: Path) -> list[runtime.checks.CheckResult]`, for `fleetlake check`."""
    normaliser: str
    """A mapping of message type (`<name>.<kind>`, or `<name>.*`) to a function of a
    `streams.normalise.message.Message`."""
    metrics: str
    """The `schemas.metrics.MetricTable`: the field that each metric is read from."""
    alarms: str = ""
    """A mapping of the type of an event, as the normaliser makes it, to a `streams.detect.vendor_alerts.Reader`, for a
    vendor that reports alarms of its own."""
    alarms_quiet_seconds: float | None = None
    """How long after its last report such an alarm resolves, for a vendor that does not report the end; the default of
    `[stream.vendor_quiet_seconds]`."""
    backfill: BackfillTypes | None = None
    """The message types that may carry the same reading twice, live and back-filled, so that it is emitted once."""
    simulator: str = ""
    """`async start(stack, world: simulators.world.World) -> simulators.world.Running`, for `fleetlake simulate`."""
    simulator_settings: str = ""
    """The pydantic model of the configuration section `[simulate.<name>]`. Every key has a default."""
    reprocessor: str = ""
    """A `connectors.common.reprocessing.Reprocessor`, made of the vendor's registered devices."""
    secret_names: tuple[str, ...] = ()
    """Names of fields whose values are hidden before the raw topic, beside the common ones of `schemas.redact`.
    Lower-case, without separators: `pincode` hides `pinCode` and `pin_code`."""
    connections: str = "connections"
    """What `fleetlake_connections` counts for this vendor, in a word or two, for the live status."""
    owned_devices: bool = False
    """Whether the connectors of several processes own the devices in shares (`connectors.common.ownership_leases`)."""
    package: str = "fleetlake"
    """The installed package that the registration came from; discovery writes it."""

    def load(self, part: Part) -> Any:
        """Import and return a part; the same object each time. RegistrationError where that is not possible."""
        return _load(self, part)

    def problems(self) -> Iterator[str]:
        """What is wrong with the registration itself, without importing any part."""
        if not _NAME.fullmatch(self.name):
            yield f"name {self.name!r} must be lower-case letters and digits, and begin with a letter"
        if self.name in RESERVED:
            yield f"name {self.name!r} is reserved"
        for part in _REQUIRED:
            if not getattr(self, part):
                yield f"{part} is missing"
        for part in (*_REQUIRED, *_OPTIONAL):
            reference = getattr(self, part)
            if reference and not _REFERENCE.fullmatch(reference):
                yield f"{part} {reference!r} must read package.module:attribute"


@cache
def _load(spec: VendorSpec, part: Part) -> Any:
    reference: str = getattr(spec, part)
    where = f"vendor {spec.name} (package {spec.package}): {part}"
    if not reference:
        raise RegistrationError(f"{where} is not part of the registration")
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the package's own code raises
        raise RegistrationError(f"{where} {reference!r}: {_text(error)}") from error


@cache
def vendors() -> Mapping[str, VendorSpec]:
    """All vendors by name: the built-in ones, then those of installed packages, by name.

    RegistrationError names the package whose entry point is broken.
    """
    from importlib.metadata import entry_points  # 20 ms that `fleetlake --help` does not need

    specs = {name: _built_in(name) for name in BUILT_IN}
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        spec = _installed(entry)
        if known := specs.get(spec.name):
            raise RegistrationError(f"{_origin(entry)}: package {known.package} has registered {spec.name} already")
        specs[spec.name] = spec
    return specs


def vendor_names() -> tuple[str, ...]:
    """The names of all vendors, in the order of `vendors`."""
    return _names()


@cache
def _names() -> tuple[str, ...]:
    return tuple(vendors())


def forget_vendors() -> None:
    """Look the vendors up again at the next question; for a process that has installed a package."""
    for function in (_load, vendors, _names):
        function.cache_clear()


def _built_in(name: str) -> VendorSpec:
    spec: VendorSpec = importlib.import_module(f"connectors.{name}.vendor").SPEC
    return spec


def _installed(entry: EntryPoint) -> VendorSpec:
    try:
        spec = entry.load()
    except Exception as error:  # whatever the package's own code raises
        raise RegistrationError(f"{_origin(entry)}: {_text(error)}") from error
    if not isinstance(spec, VendorSpec):
        raise RegistrationError(f"{_origin(entry)}: is {type(spec).__name__}, not a schemas.vendors.VendorSpec")
    problems = list(spec.problems())
    if spec.name != entry.name:
        problems.append(f"name {spec.name!r} is not the entry point's name")
    if problems:
        raise RegistrationError(f"{_origin(entry)}: {'; '.join(problems)}")
    return replace(spec, package=_package(entry))


def _origin(entry: EntryPoint) -> str:
    return f"package {_package(entry)}, entry point {entry.name!r} of {ENTRY_POINTS} ({entry.value})"


def _package(entry: EntryPoint) -> str:
    return "unknown" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
