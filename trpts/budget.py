"""How many connections fit into a budget: the largest C_min of TR-PTS's equation for C_l."""

import math
from collections.abc import Callable, Mapping


def floor(x: float) -> int:
    """The whole number below x; 0.6 / 0.2 counts as 3, not as 2.9999999999999996."""
    return math.floor(x + 1e-9)


def solve(
    exact: Callable[[float], dict[str, float]],
    ratio: Mapping[str, float],
    rows: Mapping[str, int],
    fan_in: Mapping[str, int],
    n_weights: float,
) -> tuple[float, dict[str, int]]:
    """(C_min, {layer: C_l}): the largest C_min that fits; the rest goes where most was rounded off.

    exact      C_min -> {layer: C_l before rounding}
    ratio      {layer: w_l / min(w)}
    rows       {layer: out}; fan_in: {layer: in}
    n_weights  connections that may be trained in all, at least one for every neuron
    """

    def total(c):
        return sum(rows[name] * floor(x) for name, x in exact(c).items())

    low, high = 0.0, 1.0
    while total(high) <= n_weights and high < max(fan_in.values()):
        high *= 2
    for _ in range(60):  # halves the interval: to the last digit of a double
        middle = (low + high) / 2
        low, high = (middle, high) if total(middle) <= n_weights else (low, middle)
    wanted = exact(low)
    connections = {name: floor(x) for name, x in wanted.items()}
    left = n_weights - total(low)
    weighted = [name for name in wanted if ratio[name] > 0]
    # the largest remainder first
    for name in sorted(weighted, key=lambda name: connections[name] - wanted[name]):
        if rows[name] <= left and connections[name] < fan_in[name]:
            connections[name] += 1
            left -= rows[name]
    if all(connections[name] == fan_in[name] for name in weighted):
        others = [name for name in wanted if ratio[name] == 0]
        while takers := [
            name for name in others if rows[name] <= left and connections[name] < fan_in[name]
        ]:
            name = min(takers, key=connections.__getitem__)
            connections[name] += 1
            left -= rows[name]
    return low, connections
