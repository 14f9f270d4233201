"""Process plumbing that every stage shares: Kafka options, metrics and health over HTTP, logging, start and stop."""
