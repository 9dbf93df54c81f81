"""Which transformer blocks select tokens: those where few parameters are trained (TR-PTS), or
others to compare them with.
"""

import re
from collections.abc import Mapping

import torch

PLACEMENTS = ("sparse", "dense", "random", "every")
BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)\.")


def block_of(name: str) -> int | None:
    """The number of the transformer block that a layer lies in, None for one outside of all."""
    found = BLOCK.search(name)
    return int(found[1]) if found else None


def place(
    connections: Mapping[str, int],
    rows: Mapping[str, int],
    weights: Mapping[str, float],
    n_token_blocks: int,
    placement: str,
    seed: int = 0,
) -> tuple[int, ...]:
    """The blocks that select tokens, ascending; on equal counts, their layer weights decide."""
    density: dict[int, tuple[int, float]] = {}
    for name, C in connections.items():
        if (block := block_of(name)) is not None:
            n, s = density.get(block, (0, 0.0))
            density[block] = (n + rows[name] * C, s + weights[name])
    if placement == "every":
        return tuple(sorted(density))
    if not 0 <= n_token_blocks <= len(density):
        raise ValueError(
            f"n_token_blocks={n_token_blocks}: expected 0 to {len(density)}, the number of scored "
            "blocks"
        )
    if placement == "random":
        order = torch.randperm(len(density), generator=torch.Generator().manual_seed(seed)).tolist()
        ranked = [sorted(density)[i] for i in order]
    else:
        ranked = sorted(density, key=density.__getitem__, reverse=placement == "dense")
    return tuple(sorted(ranked[:n_token_blocks]))
