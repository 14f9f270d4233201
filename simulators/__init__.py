"""Vendor clouds and devices on loopback; see README.md for what they speak and what is assumed."""
