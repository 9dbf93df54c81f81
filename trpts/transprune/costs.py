"""What a prefill costs: the paper's count of multiply-accumulates, and an honest one.

With k_i layers that hold n_i image tokens each, width d, MLP width m and l instruction tokens,

    Σ_i k_i (4 n_i d² + 2 n_i² d + 3 n_i d m) + Σ_i l n_i d + O(s d)        (TransPrune, eq. 7)

The paper calls the result FLOPs. It is multiply-accumulates, half as many, and it leaves out the
vision tower, the text tokens, the head, and the projections behind the method's own scores.
`prefill_terms` counts all of those but the tower.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a count needs neither
    from transformers import PretrainedConfig

from trpts.transprune.schedule import Schedule, known_of

SHAPE = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
)


def macs(
    text_config: PretrainedConfig,
    n_image_tokens: int,
    schedule: Schedule | None = None,
    n_text_tokens: int = 0,
    overhead: bool = False,
    n_instruction_tokens: int | None = None,
) -> int:
    """Multiply-accumulates of one prompt's prefill through the language model: eq. 7, or all of
    `prefill_terms`.

    text_config     of the language model (`model.config.text_config`); the vision tower is not
                    counted
    n_image_tokens  before any pruning
    schedule        a Schedule; None: nothing is pruned
    n_text_tokens   all others of the prompt. Eq. 7 has them in its second sum alone, whose term 0
                    drops: the paper's numbers are the same with and without it, to their two
                    decimals
    overhead        False: eq. 7 as it stands, with n_i of its second sum the tokens that stage i
                    scores, without O(sd), whose s the paper does not define, and with as many key
                    as query heads, whatever the model has
    n_instruction_tokens  l, text tokens behind the image, whose queries score it; None: all of the
                          text
    raises          ValueError: no text model's configuration, counts below 0, a schedule that does
                    not fit
    """
    if overhead:
        return sum(
            prefill_terms(
                text_config, n_image_tokens, schedule, n_text_tokens, n_instruction_tokens
            ).values()
        )
    stages = stage_lengths(text_config, n_image_tokens, schedule)
    d, m = text_config.hidden_size, text_config.intermediate_size
    layers = sum(k * (4 * n * d * d + 2 * n * n * d + 3 * n * d * m) for k, n in stages)
    return layers + _instruction(n_text_tokens, n_instruction_tokens) * d * sum(
        n for _, n in stages[:-1]
    )


def prefill_terms(
    text_config: PretrainedConfig,
    n_image_tokens: int,
    schedule: Schedule | None = None,
    n_text_tokens: int = 0,
    n_instruction_tokens: int | None = None,
) -> dict[str, int]:
    """{term: multiply-accumulates} of one prompt's prefill; a layer of stage i holds T = n_i +
    n_text_tokens tokens.

    projections  q, k, v and output, k and v as wide as the model's key heads (GQA)
    attention    q·k and the mixing of v, all T² of them, as eq. 7 counts; a causal kernel may do
                 half
    mlp          three matrices
    head         one row of logits, as `generate` asks for
    guidance     IGA at each stage that drops tokens, as `pruning` computes it: queries of the l
                 instruction tokens ("fastv": of one), keys of all T tokens, and their products
    choice       what a criterion computes beside that: similarities, kernels, clusters
    variation    TTV: an inner product and two norms, 3·d, of each token and module in an
                 accumulated layer; "norm": d. What eq. 1 needs: the code takes some norms twice
    Left out: norms of layers, activations, softmax, rotation, ranking, and all that moves tokens
    without multiplying.
    """
    stages = stage_lengths(text_config, n_image_tokens, schedule)
    asking = _instruction(n_text_tokens, n_instruction_tokens)
    d, m = text_config.hidden_size, text_config.intermediate_size
    H = text_config.num_attention_heads
    width = H * (getattr(text_config, "head_dim", None) or d // H)  # of all query heads
    key_width = width // H * (getattr(text_config, "num_key_value_heads", None) or H)
    T = [n + n_text_tokens for k, n in stages for _ in range(k)]  # of each layer
    terms = {
        "projections": sum(T) * 2 * d * (width + key_width),
        "attention": sum(2 * t * t * width for t in T),
        "mlp": sum(T) * 3 * d * m,
        "head": d * text_config.vocab_size,
        "guidance": 0,
        "choice": 0,
        "variation": 0,
    }
    if schedule is None:
        return terms
    for score, (_, n), (_, kept) in zip(schedule.scores, stages, stages[1:], strict=False):
        known = known_of(score)  # what a function of the user's own reads is not known
        if n == kept:
            continue
        if known.asks:
            queries, t = min(asking, 1) if known.asks == "last" else asking, n + n_text_tokens
            terms["guidance"] += queries * (d + t) * width + t * d * key_width
        if known.macs:
            terms["choice"] += known.macs(n, kept, asking, d)
    if stages[0][1] == stages[-1][1]:
        return terms  # nothing is dropped, and nothing watched
    products = max(known_of(score).products for score in schedule.scores)
    terms["variation"] = products * 2 * d * sum(T[a - 1] for a in schedule.accumulate)
    return terms


def _instruction(n_text_tokens, n_instruction_tokens):
    n = n_text_tokens if n_instruction_tokens is None else n_instruction_tokens
    if not 0 <= n <= n_text_tokens:
        raise ValueError(
            f"n_text_tokens={n_text_tokens}, n_instruction_tokens={n}: expected 0 or more, and no "
            "more instruction than text"
        )
    return n


def stage_lengths(
    text_config: PretrainedConfig, n_image_tokens: int, schedule: Schedule | None = None
) -> list[tuple[int, int]]:
    """[(k_i layers, n_i image tokens in each)], unpruned layers first; ValueError if unfit."""
    missing = [name for name in SHAPE if not isinstance(getattr(text_config, name, None), int)]
    if missing:
        raise ValueError(
            f"{type(text_config).__name__} has no {', '.join(missing)}: expected the "
            "configuration of the text model, as in model.config.text_config"
        )
    if n_image_tokens < 0:
        raise ValueError(f"n_image_tokens={n_image_tokens}: expected 0 or more")
    L = text_config.num_hidden_layers
    if schedule is None:
        return [(L, n_image_tokens)]
    schedule.check(L)
    bounds, n = [0, *schedule.prune_after, L], [n_image_tokens, *schedule.n_kept(n_image_tokens)]
    return [(stop - start, kept) for (start, stop), kept in zip(pairwise(bounds), n, strict=True)]
