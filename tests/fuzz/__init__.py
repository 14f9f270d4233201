"""Fuzzing of the entrances: hostile messages, made of recorded ones, into everything that reads what a vendor sends."""
