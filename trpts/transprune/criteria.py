"""What a stage ranks image tokens by: TransPrune's score, its parts, its rivals, and the floor and
ceiling of all.

A criterion is a function of `Candidates` that gives [B, N] numbers, larger is better; those of
image tokens are read, and they must be finite. Ties go to the token that comes first.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy
import torch

from trpts.transprune.scores import weighted

if TYPE_CHECKING:
    from trpts.transprune.schedule import Schedule


class Criterion(NamedTuple):
    """All that is known of a criterion.

    function  (Candidates) -> [B, N]
    products  multiply-accumulates for each token, number of its width and module, for the
              transitions that it reads: 3 for TTV, 1 for a norm alone, 0: it reads none
    asks      whose attention it reads: the "instruction"'s, that of its "last" token or of its
              "raters", or None
    relevant  whether it must be told the relevant tokens
    macs      (n tokens, of which kept stay, tokens that ask, width d) -> multiply-accumulates of
              what it computes beside transitions and attention
    first     whether it chooses among tokens that the language model has not seen yet: behind
              layer 0 alone
    """

    function: Callable[["Candidates"], torch.Tensor]
    products: int = 0
    asks: str | None = None
    relevant: bool = False
    macs: Callable[[int, int, int, int], int] | None = None
    first: bool = False


CRITERIA: dict[str, Criterion] = {}
Function = TypeVar("Function", bound=Callable[..., torch.Tensor])


def criterion(**known: Any) -> Callable[[Function], Function]:
    """Register a criterion under the name of its function; arguments as of `Criterion`."""

    def register(function: Function) -> Function:
        CRITERIA[function.__name__] = Criterion(function, **known)
        return function

    return register


@dataclass
class Candidates:
    """What a criterion may look at, at one stage, with N positions left of B rows.

    schedule     the Schedule
    hidden       [B, N, D], residual stream behind the stage's layer, in the model's own type
    image        bool [B, N]: image tokens still there
    index        int64 [B, N]: number of an image token among those of its row's prompt; -1
                 elsewhere
    instruction  bool [B, N]: instruction tokens
    raters       bool [B, N]: those of them that SparseVLM asks, see `rivals.raters`
    group        int64 [B, N]: which image tokens are chosen among each other: 0, all; with
                 frames="each", 1, 2, … for those of a video's frames
    n_keep       int64 [B, N]: how many of the token's group will stay
    ttv, norm    float32 [B, N]: TTV so far (eq. 4), and ‖T_out‖ summed in its place; 0 outside the
                 image
    attention    (queries bool [B, N]) -> float32 [B, N]: eq. 5, of any tokens, in the layer that
                 the schedule names
    ids          per row: int array of its instruction's token ids
    relevant     bool [B, most image tokens of a row]: given to `pruning`, or None
    tower        float32 [views, patches]: what the vision tower made of each, for "visionzip"
    parts        {name: [B, N]}: what a criterion adds up, for the Trace
    merged       [(row, place, places int64)]: tokens whose mean is put into a place; a criterion
                 that merges adds to it
    """

    schedule: "Schedule"
    hidden: torch.Tensor
    image: torch.Tensor
    index: torch.Tensor
    instruction: torch.Tensor
    raters: torch.Tensor
    group: torch.Tensor
    n_keep: torch.Tensor
    ttv: torch.Tensor
    norm: torch.Tensor
    attention: Callable[[torch.Tensor], torch.Tensor]
    ids: list[numpy.ndarray]
    relevant: torch.Tensor | None
    tower: torch.Tensor | None = None
    parts: dict[str, torch.Tensor] = field(default_factory=dict)
    merged: list[tuple[int, int, torch.Tensor]] = field(default_factory=list)

    def ranks(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(rank of each image token by scores [B, N] in its group, 0 the best, ties to the first;
        how many the group has left), both int64 [B, N]; outside the image they say nothing.
        """
        n_groups = int(self.group.max()) + 1
        group = self.group.masked_fill(~self.image, n_groups)
        size = group.new_zeros(len(group), n_groups + 1)
        size = size.scatter_add(1, group, torch.ones_like(group))
        order = scores.argsort(dim=1, descending=True, stable=True)
        order = order.gather(1, group.gather(1, order).argsort(dim=1, stable=True))
        place = order.argsort(dim=1)  # the groups one after the other
        return place - (size.cumsum(1) - size).gather(1, group), size.gather(1, group)

    def of_tokens(self, values: torch.Tensor) -> torch.Tensor:
        """Values [B, n] of the prompt's image tokens -> [B, N] of those left, 0 elsewhere."""
        return values.gather(1, self.index.clamp_min(0)) * self.image


@criterion(products=3, asks="instruction")
def transprune(c: Candidates) -> torch.Tensor:
    """Eq. 6; with normalise="rank" of each part's rank in its group, 1 for the largest, 0 for the
    smallest: their spreads no longer decide which of the two counts.
    """
    turned, asked, normalise = c.ttv, iga(c), c.schedule.normalise
    if normalise == "rank":
        ranks = (c.ranks(part) for part in (turned, asked))
        turned, asked = ((1 - rank / (n - 1).clamp_min(1)) * c.image for rank, n in ranks)
    c.parts |= weighted(turned, asked, c.schedule.alpha, normalise is True)
    return c.parts["ttv"] + c.parts["iga"]


@criterion(products=3)
def ttv(c: Candidates) -> torch.Tensor:
    """Transition variation alone."""
    return c.ttv


@criterion(asks="instruction")
def iga(c: Candidates) -> torch.Tensor:
    """Instruction-guided attention alone."""
    return c.attention(c.instruction)


@criterion(products=1)
def norm(c: Candidates) -> torch.Tensor:
    """Σ ‖T_out‖ for TTV: what is left of it where ‖T_in‖ are alike and directions say nothing."""
    return c.norm


@criterion(asks="last")
def fastv(c: Candidates) -> torch.Tensor:
    """Attention of the last instruction token alone."""
    counted = c.instruction.cumsum(1)
    return c.attention(c.instruction & (counted == counted[:, -1:]))


@criterion()
def random(c: Candidates) -> torch.Tensor:
    """Uniform noise, drawn from the seed and the instruction's ids: no other row, no padding and no
    beam changes it.

    One draw a token, the same at every stage. Rows that ask the same draw the same: vary the seed.
    """
    n = int(c.index.max()) + 1
    # [B, n]
    draws = numpy.stack(
        [numpy.random.default_rng([c.schedule.seed, *ids]).random(n) for ids in c.ids]
    )
    return c.of_tokens(torch.from_numpy(draws).to(c.index.device))


@criterion()
def uniform(c: Candidates) -> torch.Tensor:
    """The n_keep of a group's tokens that lie evenly, from half a gap behind the first on."""
    place, n = c.ranks(torch.zeros_like(c.ttv))
    # chosen among the tokens before this one
    kept_before = (2 * place * c.n_keep + n) // (2 * n)
    kept_after = (2 * (place + 1) * c.n_keep + n) // (2 * n)
    return (kept_after - kept_before).float()


@criterion(relevant=True)
def oracle(c: Candidates) -> torch.Tensor:
    """The relevant tokens first, the rest at random."""
    if c.relevant is None:
        raise ValueError(
            "score='oracle' without relevant: expected bool [B, image tokens], the ground truth"
        )
    return random(c) + c.of_tokens(c.relevant.long())


def choose(c: Candidates, score: str | Callable[..., Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [B, N] of the candidates, and bool [B, N]: each group's n_keep best image tokens."""
    name = score if isinstance(score, str) else getattr(score, "__name__", "score")
    # products of half precision would make ties of what is near
    with torch.autocast(c.image.device.type, enabled=False):
        scores = CRITERIA[score].function(c) if isinstance(score, str) else score(c)
    for each in (scores, *c.parts.values()):
        tensor = isinstance(each, torch.Tensor)
        if not tensor or each.shape != c.image.shape or not each[c.image].isfinite().all():
            found = list(each.shape) if tensor else type(each).__name__
            raise ValueError(
                f"the scores by {name} are {found}: expected {list(c.image.shape)}, "
                "finite for image tokens"
            )
    # float64: draws differ as they were drawn
    rank, _ = c.ranks(scores.detach().double())
    return scores.float(), (rank < c.n_keep) & c.image
