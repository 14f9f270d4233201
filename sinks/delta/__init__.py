"""The Delta lake: writing it, looking after it, checking it."""
