"""Vendors in: one folder a vendor (pure protocol beside its transports), and what they share. Out: the raw topics."""
