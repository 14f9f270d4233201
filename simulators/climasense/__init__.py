"""ClimaSense devices, simulated: HTTP clients of the product's server."""

from simulators.climasense.devices import ApiKey, ClimaSenseFleet, api_keys, write_keys

__all__ = ["ApiKey", "ClimaSenseFleet", "api_keys", "write_keys"]
