"""Device identity: `vendor:native-id` (docs/contract.md, «Identity and duplicates») (pure)."""

from __future__ import annotations

from urllib.parse import quote


def device_id(vendor: str, native_id: str) -> str:
    """The `DeviceId` of a vendor's device. The native id is kept verbatim, with blanks, slashes and colons."""
    if not vendor or ":" in vendor:
        raise ValueError(f"vendor must be a plain word, got {vendor!r}")
    if not native_id:
        raise ValueError(f"a device of {vendor} needs a native id")
    return f"{vendor}:{native_id}"


def split_device_id(text: str) -> tuple[str, str]:
    """Vendor and native id, separated at the first colon. ValueError without one."""
    vendor, colon, native = text.partition(":")
    if not colon or not vendor or not native:
        raise ValueError(f"not a device id (vendor:native-id): {text!r}")
    return vendor, native


def karcher_native_id(material_number: str, serial_number: str) -> str:
    """The native id of a Kärcher machine, made of material and serial number: `1.454-500.0/002005`."""
    return f"{material_number}/{serial_number}"


def quote_id(text: str) -> str:
    """Percent-encoding for a path or URL segment; `/` and `:` are encoded, too."""
    return quote(text, safe="")
