"""What the Python peers do to one message: the same readings with the same names and units as fleetlake's.

They neither validate nor drop duplicates, write no dead letters and no origin: less work than fleetlake does.
"""


def observation(device_id, message):
    """The readings of one datapoints message of a CV50, millimetres to metres."""
    location = message["data"]["location"]
    return {
        "device_id": device_id,
        "vendor": "karcher",
        "time": message["timestamp"],
        "readings": [
            {"metric": "position.x", "value": location["coordinateX"] / 1000, "unit": "m"},
            {"metric": "position.y", "value": location["coordinateY"] / 1000, "unit": "m"},
            {"metric": "map.id", "value": location["mapId"], "unit": None},
        ],
    }
