"""A histogram that takes batches says what Prometheus' own client says of the same values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from runtime.batch_histogram import BatchHistogram

BUCKETS = (0.1, 1.0, 10.0)
values = st.lists(st.floats(0, 100) | st.sampled_from(BUCKETS), max_size=30)


@given(st.lists(values, min_size=1, max_size=5))
def test_batches_count_like_single_observations(batches: list[list[float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    batched = BatchHistogram("a", "Ages.", ["hop"], BUCKETS, ours)
    single = Histogram("a", "Ages.", ["hop"], buckets=BUCKETS, registry=theirs)
    for batch in batches:
        batched.observe_all(["raw"], batch)
        for value in batch:
            single.labels("raw").observe(value)
    labels = [{"hop": "raw", "le": bound} for bound in ("0.1", "1.0", "10.0", "+Inf")]
    for each in labels:
        assert ours.get_sample_value("a_bucket", each) == theirs.get_sample_value("a_bucket", each)
    total = theirs.get_sample_value("a_sum", {"hop": "raw"})
    if total is not None:
        assert abs((ours.get_sample_value("a_sum", {"hop": "raw"}) or 0.0) - total) < 1e-6 * max(1, total)


def test_a_negative_age_counts_as_none_and_the_sum_never_falls() -> None:
    registry = CollectorRegistry()
    histogram = BatchHistogram("a", "Ages.", ["hop"], BUCKETS, registry)
    histogram.observe_all(["raw"], [-5.0, 2.0])
    histogram.observe_all(["raw"], [])
    assert registry.get_sample_value("a_sum", {"hop": "raw"}) == 2.0
    assert registry.get_sample_value("a_bucket", {"hop": "raw", "le": "0.1"}) == 1
    assert b'a_bucket{hop="raw",le="+Inf"} 2.0' in generate_latest(registry)


def test_without_a_value_there_is_no_sample() -> None:
    registry = CollectorRegistry()
    BatchHistogram("a", "Ages.", ["hop"], BUCKETS, registry)
    assert generate_latest(registry).decode().splitlines() == ["# HELP a Ages.", "# TYPE a histogram"]
