"""Methods of tuning: what each one trains. `linear` and `full` are the two ends, `trpts` is the
paper's.

A method is a function `prepare(model, task, seed, *, …options) -> Prepared` under a name in
METHODS; it freezes what it does not train. Options are given by name alone. Methods of other papers
register themselves from `trpts.peers`.
"""

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from trpts.allocation import COUNTED, N_TOKEN_BLOCKS, Allocation, allocate, check_options
from trpts.data.task import Task
from trpts.layers import classifier, scored_layers
from trpts.options import check_real, check_whole
from trpts.placement import block_of
from trpts.probe import probe_head
from trpts.scores import score_named
from trpts.signals import ScoreFunction
from trpts.sparse import attach, attached
from trpts.tokens import TokenScore, token_selection

PER_NEURON = 2.0  # connections, unless the caller says otherwise


@dataclass
class Prepared:
    """What a method hands to the loop.

    plan          its Allocation, where it made one
    tokens        switches of the `token_selection` that is on while training and predicting, or
                  None
    around        () -> context manager that is entered for training and measuring
    finish        called once at the end, with the selected weights in place
    leave_unused  whether parameters that the model does not use are left out; otherwise they are
                  refused: what a method has chosen or added must move
    """

    plan: Allocation | None = None
    tokens: dict[str, Any] | None = None
    around: Callable[[], AbstractContextManager] = nullcontext
    finish: Callable[[], Any] = lambda: None
    leave_unused: bool = False


class Method(NamedTuple):
    """All that is known of a method.

    prepare  (model, task, seed, *, …options) -> Prepared
    check    (model, **options): raises ValueError for what does not fit, before any work is done
    score    the name of the score that it selects connections by, unless an option says otherwise
    delta    whether what it leaves can be saved as a delta
    """

    prepare: Callable[..., Prepared]
    check: Callable[..., None]
    score: str | None = None
    delta: bool = False


METHODS: dict[str, Method] = {}


Prepare = TypeVar("Prepare", bound=Callable[..., Prepared])


def method(
    name: str,
    check: Callable[..., None] = lambda model, **options: None,
    *,
    score: str | None = None,
    delta: bool = False,
) -> Callable[[Prepare], Prepare]:
    """Register a `prepare` function under a name; arguments as of `Method`."""

    def register(prepare: Prepare) -> Prepare:
        METHODS[name] = Method(prepare, check, score, delta)
        return prepare

    return register


def check_method(name: str, model: nn.Module, options: Mapping[str, Any]) -> None:
    """Raise ValueError for an unknown method or option, or what the method itself refuses."""
    if name not in METHODS:
        raise ValueError(f"method {name!r} is unknown: expected one of {', '.join(METHODS)}")
    if attached(model):
        raise ValueError("the model has selected connections already: detach it first")
    known = {n: p for n, p in list(inspect.signature(METHODS[name].prepare).parameters.items())[3:]}
    names = {n for n, p in known.items() if p.kind != p.VAR_KEYWORD}
    if len(names) < len(known):
        names |= inspect.signature(allocate).parameters.keys() - {"scores", "model"}
    if unknown := sorted(options.keys() - names):
        raise ValueError(
            f"method {name!r} has no option {', '.join(unknown)}: it knows "
            f"{', '.join(sorted(names))}"
        )
    METHODS[name].check(model, **options)


@method("linear", delta=True)
def prepare_linear(model: nn.Module, task: Task, seed: int) -> Prepared:
    """Train the head alone: no connections."""
    attach(model, {})
    return Prepared()


@method("full")
def prepare_full(model: nn.Module, task: Task, seed: int) -> Prepared:
    """Train everything that the model uses."""
    model.requires_grad_(True)
    return Prepared(leave_unused=True)


def check_trpts(
    model: nn.Module,
    *,
    score: str | ScoreFunction = "fisher",
    allocated_by: str | ScoreFunction | None = None,
    n_scored: int = 500,
    patches: bool = False,
    keep: float = 0.95,
    n_token_blocks: int = N_TOKEN_BLOCKS,
    merge: str = "normalised",
    token_score: str | TokenScore = "cls",
    **options: Any,
) -> None:
    """Raise ValueError for what `prepare_trpts` would refuse after it has scored."""
    check_real("keep", keep, 0, 1, above=True)
    check_whole("n_scored", n_scored)
    check_whole("n_token_blocks", n_token_blocks, 0)
    for asked in (score, allocated_by or score):
        score_named(asked, 0, patches)
    scored_layers(model, patches)
    options = {n: x for n, x in options.items() if n in inspect.signature(check_options).parameters}
    check_options(**options)
    if keep < 1 and n_token_blocks:
        depth = len(getattr(model, "blocks", ()))
        if not 0 < n_token_blocks <= depth:
            raise ValueError(
                f"n_token_blocks={n_token_blocks}: expected 0 to {depth}, the model's blocks"
            )
        with token_selection(model, range(n_token_blocks), keep, merge=merge, score=token_score):
            pass


@method("trpts", check_trpts, score="fisher", delta=True)
def prepare_trpts(
    model: nn.Module,
    task: Task,
    seed: int,
    *,
    score: str | ScoreFunction = "fisher",
    allocated_by: str | ScoreFunction | None = None,
    n_scored: int = 500,
    held_out: bool = False,
    connections: bool = True,
    biases: bool = True,
    patches: bool = False,
    keep: float = 0.95,
    merge: str = "normalised",
    token_score: str | TokenScore = "cls",
    **allocation: Any,
) -> Prepared:
    """TR-PTS: score, allocate, select connections, and select tokens in the parameter-sparsest
    blocks.

    score       "fisher", a name of `trpts.scores.SCORES`, or a function (model, batches) -> scores
    allocated_by  the score that allocates, where it is another one than that which selects; None:
                  the same
    n_scored    training images that the score is taken over, at most
    held_out    whether the head that the scores are taken with is fitted on the other training
                images alone. The paper does not say. A probe of the scored images may fit them so
                well that a few of them make up the score
    connections whether any is trained; False: the scores place the token selection, and the head
    alone is trained
    biases      whether the biases of the layers are trained, and paid for by a budget
    patches     whether the patch embedding is scored and selected as well (the Fisher scores alone
                know how)
    keep        ρ, share of the tokens that a selecting block keeps; 1: parameters are selected,
                tokens are not
    merge       of the others, and
    token_score what the tokens are ranked by: see `token_selection`
    allocation  options of `allocate`: per_neuron=2.0 (our default), budget, w, n_token_blocks,
                placement, …
    """
    if not allocation.keys() & {"budget", "per_neuron", "c_min"}:
        allocation["per_neuron"] = PER_NEURON
    counted = COUNTED if biases else ("weights", "head")
    n_scored = min(n_scored, len(task.train))
    if held_out and n_scored == len(task.train):
        raise ValueError(
            f"held_out=True with n_scored={n_scored}, which are all training images: expected "
            "fewer, so that others are left for the head"
        )
    scores: Any  # never None
    with _scoring_head(model, task.train.after(n_scored) if held_out else None):
        scores, allocating = (
            score_named(s, seed, patches)(model, task.train.first(n_scored).batches(32))
            if s is not None
            else None
            for s in (score, allocated_by)
        )
    allocating = scores if allocating is None else allocating
    if keep == 1:  # no block selects tokens: a model of two blocks is no reason to refuse
        allocation.setdefault(
            "n_token_blocks", min(N_TOKEN_BLOCKS, len({block_of(n) for n in scores} - {None}))
        )
    plan = allocate(allocating, model=model, **{"seed": seed, "count": counted} | allocation)
    attach(model, plan.select(scores) if connections else {}, biases=biases)
    made = plan if connections else None
    if keep == 1 or not plan.token_blocks:
        return Prepared(made)
    switches = {"merge": (merge, "normalised"), "score": (token_score, "cls")}
    tokens: dict[str, Any] = {"blocks": plan.token_blocks, "keep": keep} | {
        n: x for n, (x, usual) in switches.items() if x != usual
    }
    return Prepared(made, tokens, partial(token_selection, model, **tokens))


@contextmanager
def _scoring_head(model, others):
    """Inside, the head is a probe of the images `others`, undone on exit; None: left alone."""
    if others is None:
        yield
        return
    head = classifier(model)
    before = {name: p.detach().clone() for name, p in head.named_parameters()}
    probe_head(model, others)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, p in head.named_parameters():
                p.copy_(before[name])
