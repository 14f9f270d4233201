"""How the vendors of this repository report alarms: one pure module per vendor that reports any."""
