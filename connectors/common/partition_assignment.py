"""Which process of a group owns which partitions of the devices. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set


def assign_partitions(held: Mapping[str, Set[int]], partitions: Collection[int]) -> dict[str, set[int]]:
    """Each member's partitions. `held` maps every member to the partitions that it holds now.

    The numbers of partitions differ by at most one, and as many partitions as possible stay where they are. The same
    arguments always give the same assignment.
    """
    free = set(partitions)
    order = sorted(held, key=lambda member: (-len(held[member] & free), member))
    # As many as each would get if they were dealt out in turn.
    quota = {member: len(range(rank, len(free), len(order))) for rank, member in enumerate(order)}
    assigned: dict[str, set[int]] = {}
    for member in order:
        assigned[member] = set(sorted(held[member] & free)[: quota[member]])
        free -= assigned[member]
    for member in order:
        taken = sorted(free)[: quota[member] - len(assigned[member])]
        assigned[member].update(taken)
        free.difference_update(taken)
    return assigned
