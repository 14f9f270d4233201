"""The order in which rules that inhibit one another across devices are evaluated (pure).

A rule with inhibitors on other devices can only be evaluated when all such inhibitors of that time are known. Rules
therefore have levels: level 0 without remote inhibitors, otherwise one above the highest level of the remote
inhibitors. Rules that inhibit each other on the same device have the same level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def levels_of(
    local: Mapping[str, Sequence[str]], remote: Mapping[str, Sequence[str]]
) -> tuple[dict[str, int], set[str]]:
    """The level of each rule, and the rules whose remote inhibitors form a cycle; those have level 0.

    `local` and `remote` give the inhibitors of each rule, on the same device and on others. Ids that are not rules are
    ignored.
    """
    group = _groups(local)
    needs: dict[str, set[str]] = {name: set() for name in group.values()}
    for rule, inhibitors in remote.items():
        needs[group[rule]] |= {group[each] for each in inhibitors if each in group}
    circular = {name for name in needs if _reaches(needs, name)}
    levels: dict[str, int] = {}
    for name in needs:
        _level(name, needs, circular, levels)
    with_remote = {rule for rule, inhibitors in remote.items() if any(each in group for each in inhibitors)}
    return {rule: levels[group[rule]] for rule in local}, {rule for rule in with_remote if group[rule] in circular}


def _groups(local: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A group name for each rule. Rules that inhibit each other on the same device have the same one."""
    neighbours: dict[str, set[str]] = {rule: set() for rule in local}
    for rule, inhibitors in local.items():
        for inhibitor in inhibitors:
            if inhibitor in neighbours:
                neighbours[rule].add(inhibitor)
                neighbours[inhibitor].add(rule)
    group: dict[str, str] = {}
    for rule in local:
        waiting = [rule]
        while waiting:
            if (member := waiting.pop()) not in group:
                group[member] = rule
                waiting += neighbours[member]
    return group


def _reaches(needs: Mapping[str, set[str]], start: str) -> bool:
    """Whether a group depends on itself."""
    seen: set[str] = set()
    waiting = list(needs[start])
    while waiting:
        if (name := waiting.pop()) == start:
            return True
        if name not in seen:
            seen.add(name)
            waiting += needs[name]
    return False


def _level(name: str, needs: Mapping[str, set[str]], circular: set[str], levels: dict[str, int]) -> int:
    if name not in levels:
        below = () if name in circular else needs[name]
        levels[name] = max((1 + _level(other, needs, circular, levels) for other in below), default=0)
    return levels[name]
