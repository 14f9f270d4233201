"""Kafka's record batches (message format 2) as columns: read and written for many records at once."""
