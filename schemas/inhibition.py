"""The order in which rules that inhibit one another across devices are judged (pure).

What a cause elsewhere means for a rule can only be judged when all such causes of the time are known. So rules stand
on levels: 0, if no cause is elsewhere; else one above the highest of their causes elsewhere. Rules that inhibit each
other on the same device stand together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def levels_of(
    local: Mapping[str, Sequence[str]], elsewhere: Mapping[str, Sequence[str]]
) -> tuple[dict[str, int], set[str]]:
    """The level of each rule, and the rules whose causes elsewhere go round in a circle: they stand on level 0.

    Both arguments have a key for each rule. What is no rule is no cause.
    """
    group = _groups(local)
    needs: dict[str, set[str]] = {name: set() for name in group.values()}
    for rule, causes in elsewhere.items():
        needs[group[rule]] |= {group[cause] for cause in causes if cause in group}
    circular = {name for name in needs if _reaches(needs, name)}
    levels: dict[str, int] = {}
    for name in needs:
        _level(name, needs, circular, levels)
    named = {rule for rule, causes in elsewhere.items() if any(cause in group for cause in causes)}
    return {rule: levels[group[rule]] for rule in local}, {rule for rule in named if group[rule] in circular}


def _groups(local: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Rules that are connected by causes on the same device have the same name."""
    neighbours: dict[str, set[str]] = {rule: set() for rule in local}
    for rule, causes in local.items():
        for cause in causes:
            if cause in neighbours:
                neighbours[rule].add(cause)
                neighbours[cause].add(rule)
    group: dict[str, str] = {}
    for rule in local:
        waiting = [rule]
        while waiting:
            if (found := waiting.pop()) not in group:
                group[found] = rule
                waiting += neighbours[found]
    return group


def _reaches(needs: Mapping[str, set[str]], start: str) -> bool:
    """Whether it depends on itself."""
    seen: set[str] = set()
    waiting = list(needs[start])
    while waiting:
        if (found := waiting.pop()) == start:
            return True
        if found not in seen:
            seen.add(found)
            waiting += needs[found]
    return False


def _level(name: str, needs: Mapping[str, set[str]], circular: set[str], levels: dict[str, int]) -> int:
    if name not in levels:
        below = () if name in circular else needs[name]
        levels[name] = max((1 + _level(other, needs, circular, levels) for other in below), default=0)
    return levels[name]
