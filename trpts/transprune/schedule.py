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
from trpts.transprune import rivals  # noqa: F401  # they register themselves
from trpts.transprune.criteria import CRITERIA, Criterion
from trpts.transprune.scores import IGA

NAMES = {
    "direction": DIRECTIONS,
    "softmax_over": ("image", "sequence"),
    "normalise": (False, True, "rank"),
    "frames": ("all", "each"),
    "iga": IGA,
    "iga_layer": ("next", "same"),
    "positions": ("keep", "compact"),
}


@dataclass(frozen=True)
class Schedule:
    """What `pruning` does. Layers are counted from 1, as the paper counts them.

    prune_after   stages: layers behind which image tokens are dropped; 0: before the first
    keep          for each stage, the share of the ORIGINAL image tokens that stays behind it: ⌊keep
                  · n_image⌋
    accumulate    A of eq. 4: layers whose transitions are summed, up to the stage; None: from the
                  first stage in the model to the last, as the paper's 7 to 12
    alpha         weight of TTV in eq. 6; 1 − alpha is IGA's
    direction     "abs": 1 − |d| (the paper); "signed": 1 − d (the released code)
    softmax_over  of TTV: "image" tokens left in the row, or its whole "sequence" without padding
                  (the released code)
    normalise     False: TTV and IGA are added as they are (the paper); True: each sums to 1 first
                  (the released code); "rank": each is its rank first
    iga           "image_keys" (as eq. 5 reads) or "all_keys" (the released code): what the softmax
                  runs over
    iga_layer     "next": layer p + 1 (the paper, eq. 6); "same": layer p
    positions     what is left is numbered as before ("keep"), or anew without gaps ("compact", the
                  released code). The paper does not say; we keep
    score         "transprune"; "ttv", "iga": either part alone; "norm": ‖T_out‖ in place of TTV;
                  "fastv": attention of the last instruction token; "random"; "uniform": evenly
                  spread tokens; "oracle": the relevant tokens first; "sparsevlm", "divprune",
                  "cdpruner", and behind layer 0 "visionzip", see `trpts.transprune.rivals`; or a
                  function, see `trpts.transprune.criteria`. Several: one for each stage
    seed          of "random", and of what "oracle" does with the rest
    frames        keep is of "all" image and video tokens of a row together, or of "each" video
                  frame's own (the paper has no video tokens but Video-LLaVA's, and does not say)
    raises        ValueError: unknown names, stages that do not ascend, keep that ascends or is
                  outside (0, 1], …
    """

    prune_after: tuple[int, ...] = (7, 9, 12)
    keep: tuple[float, ...] = (0.875, 0.625, 0.125)
    accumulate: tuple[int, ...] = None  # type: ignore[assignment]  # a tuple once it is made
    alpha: float = 0.5
    direction: str = "abs"
    softmax_over: str = "image"
    normalise: bool | str = False
    iga: str = "image_keys"
    iga_layer: str = "next"
    positions: str = "keep"
    score: str | Callable[..., Any] | tuple[str | Callable[..., Any], ...] = "transprune"
    seed: int = 0
    frames: str = "all"

    def __post_init__(self) -> None:
        for name in ("prune_after", "keep", "accumulate"):
            given = getattr(self, name)
            try:
                object.__setattr__(self, name, given if given is None else tuple(given))
            except TypeError:
                raise ValueError(f"{name}={given!r}: expected several, as in (7, 9, 12)") from None
        for value in (*self.keep, self.alpha):
            if not isinstance(value, Real):
                raise ValueError(
                    f"{value!r} in keep={self.keep} or alpha={self.alpha!r} is no number"
                )
        for name, allowed in NAMES.items():
            if getattr(self, name) not in allowed:
                choice = " or ".join(map(str, allowed))
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown: expected {choice}")
        stages, keep = self.prune_after, self.keep
        if not stages or not _ascends(stages, first=0):
            raise ValueError(
                f"prune_after={stages}: expected layers from 0, each later than the one before"
            )
        if not all(0 < k <= 1 for k in keep) or any(a < b for a, b in pairwise(keep)):
            raise ValueError(
                f"keep={keep}: expected shares of the image tokens in (0, 1], none larger than "
                "before"
            )
        if isinstance(self.score, list):  # as a file has it
            object.__setattr__(self, "score", tuple(self.score))
        for name, many in (("keep", keep), ("score", self.scores)):
            if len(many) != len(stages):
                raise ValueError(
                    f"{name}={many} has {len(many)} entries: expected {len(stages)}, one for each "
                    f"of {stages}"
                )
        for score in self.scores:
            if not callable(score) and score not in CRITERIA:
                raise ValueError(
                    f"score={score!r} is unknown: expected one of {', '.join(CRITERIA)}, or a "
                    "function"
                )
        if self.accumulate is None:
            first = next((p for p in stages if p), stages[-1] + 1)
            object.__setattr__(self, "accumulate", tuple(range(first, stages[-1] + 1)))
        layers = self.accumulate
        if not _ascends(layers):
            raise ValueError(
                f"accumulate={layers}: expected layers from 1, each later than the one before"
            )
        for after, known in zip(stages, map(known_of, self.scores), strict=True):
            if known.products > 0 and (not layers or layers[0] > after):
                raise ValueError(
                    f"accumulate={layers} has no layer up to {after}: score={self.score!r} needs "
                    "one, and a stage behind layer 1 or later; left out, it follows prune_after"
                )
            if known.first and after:
                raise ValueError(
                    f"score={self.score!r} behind layer {after}: expected it behind layer 0, "
                    "where tokens are as the vision tower left them"
                )
            if known.asks and not after and self.iga_layer == "same":
                raise ValueError("iga_layer='same' behind layer 0: expected 'next', there is none")
        if not isinstance(self.seed, Integral) or self.seed < 0:
            raise ValueError(f"seed={self.seed!r}: expected a whole number from 0")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha={self.alpha}: expected a weight in [0, 1]")

    @property
    def scores(self) -> tuple[str | Callable[..., Any], ...]:
        """The criterion of each stage."""
        return self.score if isinstance(self.score, tuple) else (self.score,) * len(self.keep)

    @property
    def reads(self) -> bool:
        """Whether a stage reads transitions; a function of the user's own may."""
        return any(callable(s) or CRITERIA[s].products > 0 for s in self.scores)

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

    def scaled(self, n_layers: int, of: int = 32, distinct: bool = True) -> "Schedule":
        """The schedule of `of` layers on n_layers: each stage at the nearest like depth.

        distinct  True: all stages stay, each behind a layer of its own, the later ones deeper than
                  their share where there are few layers; False: each stands at its share of the
                  depth, and of those that fall together the last is left, with its keep

        The paper's models have 28 to 32 layers; it does not say what to do elsewhere. Accumulated
        layers follow their stages, and a range of layers stays one.
        """
        n = len(self.prune_after)
        fewest = n + 1 if distinct else 2
        if n_layers < fewest:
            raise ValueError(f"{n} stages in {n_layers} layers: expected at least {fewest}")
        self.check(of)
        stages: list[int] = []
        for i, p in enumerate(self.prune_after):
            nearest = max(min(p, 1), round(p * n_layers / of))
            low = stages[-1] + 1 if stages and distinct else 0
            stages.append(min(max(low, nearest), n_layers - (n - i if distinct else 1)))
        moved = dict(zip(self.prune_after, stages, strict=True))
        layers = sorted(
            {moved.get(a, min(max(1, round(a * n_layers / of)), n_layers)) for a in self.accumulate}
        )
        if layers and self.accumulate[-1] - self.accumulate[0] == len(self.accumulate) - 1:
            layers = list(range(layers[0], layers[-1] + 1))
        left = {p: i for i, p in enumerate(stages)}  # of equals the last
        score = self.score
        return replace(
            self,
            prune_after=tuple(left),
            keep=tuple(self.keep[i] for i in left.values()),
            score=tuple(score[i] for i in left.values()) if isinstance(score, tuple) else score,
            accumulate=tuple(layers),
        )


def known_of(score: str | Callable[..., Any]) -> Criterion:
    """All that is known of a criterion; of a function of the user's own, nothing."""
    return CRITERIA[score] if isinstance(score, str) else Criterion(score)


def _ascends(layers, first=1):
    return all(isinstance(x, Integral) for x in layers) and all(
        a < b for a, b in pairwise((first - 1, *layers))
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
# DivPrune, CDPruner and VisionZip: 192 of 576 tokens before the first layer, the largest of the
# counts 192, 128 and 64 that each paper has
DIVPRUNE, CDPRUNER, VISIONZIP = (
    Schedule((0,), (1 / 3,), positions="compact", score=score)
    for score in ("divprune", "cdpruner", "visionzip")
)
# SparseVLM: 300, 200 and 110 of 576 tokens, as its code has for "192", and its layers 2, 6 and 15,
# which it counts from 0
SPARSEVLM = replace(
    FASTV,
    prune_after=(3, 7, 16),
    keep=(300 / 576, 200 / 576, 110 / 576),
    positions="compact",
    score="sparsevlm",
)
