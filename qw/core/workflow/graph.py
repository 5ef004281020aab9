"""Topological order of the needs, in linear time and without recursion (1,000 levels are possible)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence


def order(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the nodes with every need before its dependants, otherwise as given. Omits nodes on or behind a cycle."""
    left = {node: len(set(below)) for node, below in needs.items()}
    dependants: dict[str, list[str]] = {node: [] for node in needs}
    for node, below in needs.items():
        for need in set(below):
            dependants[need].append(node)
    ready = [node for node, count in left.items() if count == 0]
    for node in ready:  # grows during the loop
        for dependant in dependants[node]:
            left[dependant] -= 1
            if left[dependant] == 0:
                ready.append(dependant)
    return ready


def cycle(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return one cycle, with its first node repeated at the end; empty if there is none."""
    stuck = needs.keys() - set(order(needs))
    node = next((node for node in needs if node in stuck), None)
    path: dict[str, int] = {}
    while node is not None and node not in path:  # every stuck node needs another stuck node
        path[node] = len(path)
        node = next(need for need in needs[node] if need in stuck)
    return [*list(path)[path[node] :], node] if node is not None else []


def uncovered(needs: Mapping[str, Sequence[str]], wanted: Mapping[str, Collection[str]]) -> list[tuple[str, str]]:
    """Return each (node, name) whose *node* uses *name* but does not need it, even indirectly. Requires no cycles."""
    nodes = order(needs)
    place = {node: n for n, node in enumerate(nodes)}
    before: list[int] = []  # bit masks of the ancestors: 1,000 sets of 1,000 names would take 30 MB
    for node in nodes:
        mask = 0
        for need in needs[node]:
            mask |= before[place[need]] | 1 << place[need]
        before.append(mask)
    return [(node, name) for node in needs for name in wanted[node] if not before[place[node]] >> place[name] & 1]
