"""The short configuration file that `fleetlake init` writes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_NEEDS = {
    "karcher": (
        "# From Kärcher's developer portal.",
        'client_id = ""',
        'client_secret_file = "karcher.secret"  # a file that holds the secret',
    ),
    "ogmen": (
        'socket_url = "wss://HOST/ws/{device_id}"',
        'api_url = "https://HOST"',
        "devices = []  # ids of the robots",
    ),
    "wayscloud": (
        'api_key_file = "wayscloud.key"  # a file that holds the key',
        '# The broker is asked from the API. A broker of your own: mqtt_host = "mqtt.example.com"',
    ),
    "climasense": (
        "# Devices connect to this address. Make their keys with `fleetlake keys create DEVICE`.",
        'host = "0.0.0.0"',
        "port = 8080",
    ),
}


def starter_toml(vendors: Sequence[str]) -> str:
    """A configuration for these vendors: what has to be filled in, and nothing that has a good default."""
    names = ", ".join(f'"{vendor}"' for vendor in vendors)
    lines = [
        "# `fleetlake config --example` explains every key.",
        "[pipeline]",
        f"vendors = [{names}]",
        'data = "data"',
    ]
    for vendor in vendors:
        lines += ["", f"[{vendor}]", *_NEEDS.get(vendor, ())]
    return "\n".join(lines) + "\n"
