"""Scores of image tokens: how much a module turned and stretched a token, and what the instruction
asks of it.

For a module F (self-attention, FFN; the residual path excluded) that turned T_in into T_out,

    m(F, T) = ‖T_out‖ / ‖T_in‖        d(F, T) = cos(T_out, T_in)       (TransPrune, eq. 1)
    TTV(F, T) = Softmax(1 − |d(F, T)|) · m(F, T)                       (eq. 2)
    TTV_l = TTV(Attention_l) + TTV(FFN_l)        TTV_p = Σ_{l ∈ A, l ≤ p} TTV_l   (eq. 3, 4)
    IGA = 1/L Σ_j A_j, attention of the L instruction tokens to image tokens      (eq. 5)
    Score_p = α · TTV_p + (1 − α) · IGA_{p+1}                                     (eq. 6)

T_in is what F reads, behind the RMSNorm: so the released code has it, and Fig. 2 leaves the
residual out. Where ‖T_in‖ is about the same for all tokens, m is the norm of the output. All sums
are float32, whatever the model computes in.
"""

import torch
from torch.nn.functional import cosine_similarity

DIRECTIONS = ("abs", "signed")
IGA = ("all_keys", "image_keys")
EPS = 1e-6


def transition_variation(t_in, t_out, direction="abs", domain=None):
    """TTV of one module (eq. 1, 2): float32 [B, N] of tokens [B, N, D] before and after it, 0
    outside the domain.

    direction  "abs": 1 − |d| (the paper); "signed": 1 − d (the released code)
    domain     bool [B, N], tokens that the softmax of a row runs over; None: all. Padding must be
               outside. The paper says "across all tokens" and writes T_I, image tokens; the
               released code takes text and the batch's other rows in as well, which scales a
               layer's scores as a whole: here rows never see each other
    raises     ValueError: unknown direction, shapes that differ
    """
    _check_name("direction", direction, DIRECTIONS)
    if t_in.ndim != 3 or t_in.shape != t_out.shape:
        raise ValueError(
            f"tokens {list(t_in.shape)} before, {list(t_out.shape)} after: expected [B, N, D] twice"
        )
    t_in, t_out = t_in.float(), t_out.float()
    d = cosine_similarity(t_out, t_in, dim=2, eps=EPS)  # [B, N]; 0 for a token of zeros
    m = t_out.norm(dim=2) / t_in.norm(dim=2).clamp_min(EPS)
    turn = 1 - (d.abs() if direction == "abs" else d)
    if domain is None:
        return turn.softmax(1) * m
    return (_softmax_within(turn, domain) * m).masked_fill(~domain, 0.0)


def guided_attention(q, k, queries, keys, image, scaling, iga="image_keys"):
    """IGA (eq. 5): float32 [B, N], mean over heads and over a row's query tokens, 0 outside the
    image.

    q, k     [B, H, M, d] of the last M positions, [B, G, N, d] of all, G key heads shared by H / G
             query heads each; with their position embedding
    queries  bool [B, M], the instruction tokens among the last M; at least one in each row
    keys     bool [B, N], tokens that may be seen: no padding. What comes after a query is never
             seen
    image    bool [B, N]
    iga      "image_keys": softmax over the image tokens, as eq. 5 reads; "all_keys": over all a
             query sees, of which the image's share is taken (the released code): heads that look
             elsewhere count less
    raises   ValueError: unknown iga, a row without a query
    """
    _check_name("iga", iga, IGA)
    if not queries.any(1).all():
        raise ValueError(
            f"row {queries.any(1).long().argmin()} has no instruction token: expected text behind "
            "images, and the prompt in one piece"
        )
    with torch.autocast(q.device.type, enabled=False):
        q, k = q.float() * scaling, k.float().repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        logits = q @ k.mT  # [B, H, M, N]
        M, N = logits.shape[2:]
        # [B, 1, M, N]
        seen = torch.ones(M, N, dtype=torch.bool, device=q.device).tril(N - M) & keys[:, None, None]
        if iga == "image_keys":
            seen = seen & image[:, None, None]
        each = _softmax_within(logits, seen.expand_as(logits)).mean(1)  # [B, M, N]
        total = (each * queries[:, :, None]).sum(1)  # [B, N]
    return (total / queries.sum(1, keepdim=True)).masked_fill(~image, 0.0)


def combine(ttv, iga, alpha=0.5, normalise=False):
    """Score (eq. 6), [B, N] of both: α · TTV + (1 − α) · IGA; with `normalise` each sums to 1 in
    its row first.

    The paper adds them as they are; the released code normalises, at equal weights. Both are 0
    outside the image.
    """
    if normalise:
        ttv, iga = (
            x / x.sum(1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny) for x in (ttv, iga)
        )
    return alpha * ttv + (1 - alpha) * iga


def _softmax_within(x, domain):
    """Softmax over the last dimension's places in the domain; 0 elsewhere, and everywhere where the
    domain is empty.
    """
    return x.masked_fill(~domain, torch.finfo(x.dtype).min).softmax(-1) * domain


def _check_name(what, name, allowed):
    if name not in allowed:
        raise ValueError(f"{what}={name!r} is unknown: expected {' or '.join(allowed)}")
