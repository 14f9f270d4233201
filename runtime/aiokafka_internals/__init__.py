"""Every access to what aiokafka keeps private, in one place.

aiokafka's public interface lacks some of what this program needs. Each function and class here reaches below that
interface, and says in its docstring why. No other module may: `tests/runtime/test_aiokafka_internals.py` enforces it,
and its canary tests fail with the name of the module to revise when an upgrade changes what is relied on here.

| module | what it reaches |
| --- | --- |
| `connections` | a single connection, without a client around it |
| `consumers` | the consumer's fetcher, coordinator, subscription and metadata |
| `fetch_buffers` | the fetcher's buffers of records that nobody has taken yet |
| `producers` | the producer's record accumulator and sender |
| `topic_configs` | the classes of its requests, for one that it lacks: IncrementalAlterConfigs |
| `topic_metadata` | likewise: Metadata of version 10, which gives topic ids |
| `topic_prefix` | every request and response of a connection, to put a prefix before names |
| `transactions` | the producer's transaction manager and sender, by subclasses, and what it asks of a batch |
"""

WRITTEN_AGAINST = "0.14.0"
"""The version of aiokafka whose source was read for this package."""
