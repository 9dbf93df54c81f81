"""A pruning schedule: after which layers image tokens are dropped, how many stay, and by which
score.

TransPrune (section 4) prunes behind layers P = {7, 9, 12} of 32, and sums transitions over A = 7 …
12. How many tokens stay is in its supplement, which is not public; the released code has 0.875,
0.625 and 0.125 of the image's tokens, and with these eq. 7 gives the 1.56 TFLOPs of "High" to all
its digits.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

from trpts.transition import DIRECTIONS
from trpts.transprune.criteria import CRITERIA
from trpts.transprune.scores import IGA

NAMES = {
    "direction": DIRECTIONS,
    "softmax_over": ("image", "sequence"),
    "iga": IGA,
    "iga_layer": ("next", "same"),
    "positions": ("keep", "compact"),
}


@dataclass(frozen=True)
class Schedule:
    """What `pruning` does. Layers are counted from 1, as the paper counts them.

    prune_after   stages: layers behind which image tokens are dropped
    keep          for each stage, the share of the ORIGINAL image tokens that stays behind it: ⌊keep
                  · n_image⌋
    accumulate    A of eq. 4: layers whose transitions are summed, up to the stage; None: from the
                  first stage to the last, as the paper's 7 to 12
    alpha         weight of TTV in eq. 6; 1 − alpha is IGA's
    direction     "abs": 1 − |d| (the paper); "signed": 1 − d (the released code)
    softmax_over  of TTV: "image" tokens left in the row, or its whole "sequence" without padding
                  (the released code)
    normalise     whether TTV and IGA sum to 1 before they are added (the released code)
    iga           "image_keys" (as eq. 5 reads) or "all_keys" (the released code): what the softmax
                  runs over
    iga_layer     "next": layer p + 1 (the paper, eq. 6); "same": layer p
    positions     what is left is numbered as before ("keep"), or anew without gaps ("compact", the
                  released code). The paper does not say; we keep
    score         "transprune"; "ttv", "iga": either part alone; "norm": ‖T_out‖ in place of TTV;
                  "fastv": attention of the last instruction token; "random", "uniform": every
                  so-manieth token; "oracle": the relevant tokens first; or a function, see
                  `trpts.transprune.criteria`
    seed          of "random", and of what "oracle" does with the rest
    raises        ValueError: unknown names, stages that do not ascend, keep that ascends or is
                  outside (0, 1], …
    """

    prune_after: tuple[int, ...] = (7, 9, 12)
    keep: tuple[float, ...] = (0.875, 0.625, 0.125)
    accumulate: tuple[int, ...] = None  # type: ignore[assignment]  # a tuple once it is made
    alpha: float = 0.5
    direction: str = "abs"
    softmax_over: str = "image"
    normalise: bool = False
    iga: str = "image_keys"
    iga_layer: str = "next"
    positions: str = "keep"
    score: str | Callable[..., Any] = "transprune"
    seed: int = 0

    def __post_init__(self) -> None:
        given = (
            ("prune_after", "keep")
            if self.accumulate is None
            else ("prune_after", "keep", "accumulate")
        )
        for name in given:
            try:
                object.__setattr__(self, name, tuple(getattr(self, name)))
            except TypeError:
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: expected several, as in (7, 9, 12)"
                ) from None
        for value in (*self.keep, self.alpha):
            if not isinstance(value, Real):
                raise ValueError(
                    f"{value!r} in keep={self.keep} or alpha={self.alpha!r} is no number"
                )
        for name, allowed in NAMES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is unknown: expected {' or '.join(allowed)}"
                )
        if self.score not in CRITERIA and not callable(self.score):
            raise ValueError(
                f"score={self.score!r} is unknown: expected one of {', '.join(CRITERIA)}, or a "
                "function"
            )
        stages, keep = self.prune_after, self.keep
        if not stages or not _ascends(stages):
            raise ValueError(
                f"prune_after={stages}: expected layers from 1, each later than the one before"
            )
        if not all(0 < k <= 1 for k in keep) or any(a < b for a, b in pairwise(keep)):
            raise ValueError(
                f"keep={keep}: expected shares of the image tokens in (0, 1], none larger than "
                "before"
            )
        if len(keep) != len(stages):
            raise ValueError(
                f"keep={keep} has {len(keep)} shares: expected {len(stages)}, one for each of "
                f"{stages}"
            )
        if self.accumulate is None:
            object.__setattr__(self, "accumulate", tuple(range(stages[0], stages[-1] + 1)))
        layers = self.accumulate
        if not _ascends(layers):
            raise ValueError(
                f"accumulate={layers}: expected layers from 1, each later than the one before"
            )
        reads = not callable(self.score) and CRITERIA[self.score].products > 0
        if reads and (not layers or layers[0] > stages[0]):
            raise ValueError(
                f"accumulate={layers} has no layer up to {stages[0]}: score={self.score!r} needs "
                "one; left out, it follows prune_after"
            )
        if not isinstance(self.seed, Integral) or self.seed < 0:
            raise ValueError(f"seed={self.seed!r}: expected a whole number from 0")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha={self.alpha}: expected a weight in [0, 1]")

    def check(self, n_layers: int) -> None:
        """Raise ValueError unless the schedule fits a language model of n_layers."""
        if self.prune_after[-1] >= n_layers:
            raise ValueError(
                f"prune_after={self.prune_after} in {n_layers} layers: expected the last before "
                f"layer {n_layers}; Schedule.scaled({n_layers}) makes it fit"
            )
        if self.accumulate and self.accumulate[-1] > n_layers:
            raise ValueError(f"accumulate={self.accumulate}: expected layers from 1 to {n_layers}")

    def n_kept(self, n_image: int) -> list[int]:
        """Image tokens that stay behind each stage, of n_image: ⌊keep · n_image⌋ [len(keep)]."""
        return [math.floor(k * n_image + 1e-9) for k in self.keep]  # 0.29 · 100 is 29

    def scaled(self, n_layers: int, of: int = 32) -> "Schedule":
        """The schedule of `of` layers on n_layers: each stage at the nearest like depth, all
        different, in range.

        The paper's models have 28 to 32 layers; it does not say what to do elsewhere. Accumulated
        layers follow their stages, and a range of layers stays one.
        """
        n = len(self.prune_after)
        if n_layers <= n:
            raise ValueError(f"{n} stages in {n_layers} layers: expected at least {n + 1}")
        self.check(of)
        stages: list[int] = []
        for i, p in enumerate(self.prune_after):
            low = stages[-1] + 1 if stages else 1
            stages.append(min(max(low, round(p * n_layers / of)), n_layers - n + i))
        moved = dict(zip(self.prune_after, stages, strict=True))
        layers = sorted(
            {moved.get(a, min(max(1, round(a * n_layers / of)), n_layers)) for a in self.accumulate}
        )
        if layers and self.accumulate[-1] - self.accumulate[0] == len(self.accumulate) - 1:
            layers = list(range(layers[0], layers[-1] + 1))
        return replace(self, prune_after=tuple(stages), accumulate=tuple(layers))


def _ascends(layers):
    return all(isinstance(x, Integral) for x in layers) and all(
        a < b for a, b in pairwise((0, *layers))
    )


# equations, A and P: the paper; keep: the released code, confirmed by the paper's TFLOPs
PAPER = HIGH = Schedule()
RELEASED_CODE = Schedule(
    direction="signed", softmax_over="sequence", normalise=True, iga="all_keys", positions="compact"
)
# Inferred, not published: among multiples of 1/16 these alone give both of the paper's TFLOPs for
# "Low" by eq. 7, 1.19 (LLaVA-1.5, 576 tokens) and 6.41 (LLaVA-NeXT, 2880), at the layers of "High"
LOW_INFERRED = Schedule(keep=(0.625, 0.1875, 0.0625))
# PyramidDrop: halves the tokens at 8, 16, 24, by what the last instruction token attends to in the
# next layer
PYRAMIDDROP = Schedule(
    (8, 16, 24), (0.5, 0.25, 0.125), accumulate=(), score="fastv", iga="all_keys"
)
# FastV, K = 2, R = 50 %: half of them behind layer 2, by what the last token attended to in that
# layer
FASTV = Schedule((2,), (0.5,), accumulate=(), score="fastv", iga="all_keys", iga_layer="same")
