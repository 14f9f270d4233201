"""What the connectors of all vendors share: publishing, ownership of devices, HTTP, WebSocket, OAuth2, limits."""

STAGE = "connect"
"""The name of the connectors' stage in metrics; in dead letters it is `connector` (as `delta` is `sink` there)."""
