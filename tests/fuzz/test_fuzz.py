"""A short run of the fuzzer, and proof that it notices what it looks for."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import BUG, Run, finding
from tests.fuzz.entrances import ENTRANCES, Outcome
from tests.fuzz.inputs import SECRET, Input, make_input


def test_some_hostile_messages_find_nothing() -> None:
    run = Run(seed=20261128)
    run.go(0, 150, 120)
    assert run.tried == 150 * len(ENTRANCES)
    assert not run.findings


def test_an_input_can_be_made_again_and_secrets_are_in_those_that_say_so() -> None:
    made = [make_input(7, number) for number in range(300)]
    assert made == [make_input(7, number) for number in range(300)]
    assert len({given.payload for given in made}) > 290
    hiding = [given for given in made if given.hides_a_secret]
    assert len(hiding) > 100 and all(SECRET.encode() in given.payload for given in hiding)


def raising(_: bytes) -> Outcome:
    raise OverflowError


@pytest.mark.parametrize(
    ("entrance", "what"),
    [
        (raising, "OverflowError in raising"),
        (lambda payload: Outcome(reasons=[BUG]), "a bug became"),
        (lambda payload: Outcome(shown=[payload.decode()]), "a secret is shown"),
    ],
)
def test_it_notices(entrance: object, what: str) -> None:
    assert what in str(finding(entrance, Input(SECRET.encode(), True)))  # type: ignore[arg-type]


def test_nothing_is_wrong_with_a_good_entrance() -> None:
    assert finding(lambda payload: Outcome(shown=["[redacted]"]), Input(SECRET.encode(), True)) is None
