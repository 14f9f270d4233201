"""The engine: Faust on the record-batch transport, one pipeline per input partition, a transaction per batch."""
