"""The trellis tables are the published codes."""

import heapq

import numpy as np
import pytest

from squeeze.codecs.trellis.tables import PARITY_CHECKS, next_states, supersets
from squeeze.errors import BadConfig

every_trellis = pytest.mark.parametrize("n_states", PARITY_CHECKS)

# Squared distance between the nearest members of two subsets, by the difference of their labels.
SUBSET_DISTANCE = {0: 0, 1: 1, 2: 4, 3: 1}


@every_trellis
def test_every_state_is_reached_from_two_states_with_different_parity(n_states):
    table = next_states(n_states)
    arrivals = {state: [] for state in range(n_states)}
    for state in range(n_states):
        for parity in (0, 1):
            arrivals[int(table[state, parity])].append((state, parity))
    for pair in arrivals.values():
        assert len(pair) == 2
        assert {parity for _, parity in pair} == {0, 1}


@every_trellis
def test_branches_that_leave_or_enter_a_state_share_a_superset(n_states):
    table, superset = next_states(n_states), supersets(n_states)
    assert superset.sum() == n_states // 2
    for target in range(n_states):
        sources = np.argwhere(table == target)[:, 0]
        assert superset[sources[0]] == superset[sources[1]]


@every_trellis
def test_free_distance_is_the_published_one(n_states):
    """Dijkstra over pairs of paths that part in a common state and meet again.

    Parallel branches (same subset) are 4 apart, squared 16, which caps the distance.
    """
    table, superset = next_states(n_states), supersets(n_states)

    def label(state, parity):
        return 2 * parity + int(superset[state])

    best, queue, seen = 16, [], set()
    for state in range(n_states):
        queue.append((4, int(table[state, 0]), int(table[state, 1])))
    heapq.heapify(queue)
    while queue:
        distance, a, b = heapq.heappop(queue)
        if distance >= best or a == b:
            best = min(best, distance)
            break
        if (a, b) in seen:
            continue
        seen.add((a, b))
        for p in (0, 1):
            for q in (0, 1):
                step = SUBSET_DISTANCE[int(label(a, p) - label(b, q)) % 4]
                heapq.heappush(queue, (distance + step, int(table[a, p]), int(table[b, q])))
    assert best == PARITY_CHECKS[n_states][2]


def test_tables_cannot_be_changed_by_a_caller():
    with pytest.raises(ValueError, match="read-only"):
        next_states(8)[0, 0] = 1


@pytest.mark.parametrize("n_states", [0, 1, 2, 5, 512, -8])
def test_unknown_state_count_is_refused_by_name(n_states):
    with pytest.raises(BadConfig, match="no such number of states"):
        next_states(n_states)
