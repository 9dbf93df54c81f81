"""What a prefill costs: the paper's count of multiply-accumulates, and an honest one.

With k_i layers that hold n_i image tokens each, width d, MLP width m and l instruction tokens,

    Σ_i k_i (4 n_i d² + 2 n_i² d + 3 n_i d m) + Σ_i l n_i d + O(s d)        (TransPrune, eq. 7)

The paper calls the result FLOPs. It is multiply-accumulates, half as many, and it leaves out the vision tower, the text
tokens, the head, and the projections behind the method's own scores. `prefill_terms` counts all of those but the tower.
"""

import math

SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


def macs(text_config, n_image_tokens, schedule=None, n_text_tokens=0, overhead=False):
    """Multiply-accumulates of one prompt's prefill through the language model: eq. 7, or all of `prefill_terms`.

    text_config     of the language model (`model.config.text_config`); the vision tower is not counted
    n_image_tokens  before any pruning
    schedule        its prune_after and keep are read; None: nothing is pruned
    n_text_tokens   eq. 7: l, the tokens whose queries score the image; 0 drops that term, as the paper's numbers do to
                    their two decimals. Text in the layers is not counted there. With overhead: all tokens of text
    overhead        False: eq. 7 as it stands, with n_i of its second sum the tokens that stage i scores, without O(sd),
                    whose s the paper does not define, and with as many key as query heads, whatever the model has
    raises          ValueError: no text model's configuration, counts below 0, a schedule that does not fit
    """
    if overhead:
        return sum(prefill_terms(text_config, n_image_tokens, schedule, n_text_tokens).values())
    stages = stage_lengths(text_config, n_image_tokens, schedule, n_text_tokens)
    d, m = text_config.hidden_size, text_config.intermediate_size
    layers = sum(k * (4 * n * d * d + 2 * n * n * d + 3 * n * d * m) for k, n in stages)
    return layers + n_text_tokens * d * sum(n for _, n in stages[:-1])


def prefill_terms(text_config, n_image_tokens, schedule=None, n_text_tokens=0):
    """{term: multiply-accumulates} of one prompt's prefill, with T = n_i + n_text_tokens tokens in a layer of stage i.

    projections  q, k, v and output, k and v as wide as the model's key heads (GQA)
    attention    q·k and the mixing of v, all of T², as eq. 7 counts them; a causal kernel may do half
    mlp          three matrices
    head         one row of logits, as `generate` asks for
    guidance     IGA: queries of the text (all of it taken for instruction), keys, their products
    variation    TTV: two norms and one inner product of each image token before and after both modules of a layer
    Left out: norms, activations, softmax, rotation, sorting, and all that moves tokens without multiplying.
    """
    stages = stage_lengths(text_config, n_image_tokens, schedule, n_text_tokens)
    d, m, H = text_config.hidden_size, text_config.intermediate_size, text_config.num_attention_heads
    width = H * (getattr(text_config, "head_dim", None) or d // H)  # of all query heads
    key_width = width // H * (getattr(text_config, "num_key_value_heads", None) or H)
    lengths = [n for k, n in stages for _ in range(k)]  # image tokens of each layer
    T = [n + n_text_tokens for n in lengths]
    terms = {
        "projections": sum(T) * 2 * d * (width + key_width),
        "attention": sum(2 * t * t * width for t in T),
        "mlp": sum(T) * 3 * d * m,
        "head": d * text_config.vocab_size,
    }
    if schedule is None:
        return terms
    scored = [n + (n_text_tokens if schedule.iga == "all_keys" else 0) for _, n in stages[:-1]]
    guided = schedule.score in ("transprune", "iga")
    varied = schedule.score in ("transprune", "ttv")
    terms["guidance"] = guided * sum(n_text_tokens * width * (d + n) + n * d * key_width for n in scored)
    terms["variation"] = varied * sum(6 * d * lengths[layer - 1] for layer in schedule.accumulate)
    return terms


def stage_lengths(text_config, n_image_tokens, schedule, n_text_tokens=0):
    """[(k_i layers, n_i image tokens in each)], unpruned layers first; ValueError for what does not fit."""
    missing = [name for name in SHAPE if not isinstance(getattr(text_config, name, None), int)]
    if missing:
        raise ValueError(f"{type(text_config).__name__} has no {', '.join(missing)}: expected the configuration of the "
                         "text model, as in model.config.text_config")  # fmt: skip
    if n_image_tokens < 0 or n_text_tokens < 0:
        raise ValueError(f"n_image_tokens={n_image_tokens}, n_text_tokens={n_text_tokens}: expected none below 0")
    L = text_config.num_hidden_layers
    after = [] if schedule is None else list(schedule.prune_after)
    if any(not 0 < layer < L for layer in after):
        raise ValueError(f"prune_after={tuple(after)}: expected layers from 1 to {L - 1}; `Schedule.scaled` fits others")
    shares = [1.0, *(schedule.keep if after else [])]
    bounds = [0, *after, L]
    n = [math.floor(share * n_image_tokens + 1e-9) for share in shares]  # as the pruning itself rounds
    return [(stop - start, kept) for start, stop, kept in zip(bounds, bounds[1:], n, strict=False)]
