"""Token transition variation: how much a module turned and stretched a token. TransPrune ranks
image tokens by it, and TR-PTS may rank its tokens by it too.

For a module F (self-attention, FFN; the residual path excluded) that turned T_in into T_out,

    m(F, T) = ‖T_out‖ / ‖T_in‖        d(F, T) = cos(T_out, T_in)       (TransPrune, eq. 1)
    TTV(F, T) = Softmax(1 − |d(F, T)|) · m(F, T)                       (eq. 2)

T_in is what F reads, behind the RMSNorm: so the released code has it, and Fig. 2 leaves the
residual out. Where ‖T_in‖ is about the same for all tokens, m is the norm of the output. All sums
are float32, whatever the model computes in.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import cosine_similarity

DIRECTIONS = ("abs", "signed")
EPS = 1e-6


def transition_variation(
    t_in: torch.Tensor,
    t_out: torch.Tensor,
    direction: str = "abs",
    domain: torch.Tensor | None = None,
) -> torch.Tensor:
    """TTV of one module (eq. 1, 2): float32 [B, N] of tokens [B, N, D] before and after it, 0
    outside the domain.

    direction  "abs": 1 − |d| (the paper); "signed": 1 − d (the released code)
    domain     bool [B, N], tokens that the softmax of a row runs over; None: all. Padding must be
               outside. The paper says "across all tokens" and writes T_I, image tokens; the
               released code takes text and the batch's other rows in as well, which scales a
               layer's scores as a whole: here rows never see each other
    raises     ValueError: unknown direction, shapes that differ
    """
    check_name("direction", direction, DIRECTIONS)
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
    return (softmax_within(turn, domain) * m).masked_fill(~domain, 0.0)


def softmax_within(x: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
    """Softmax over the last dimension within the domain; 0 elsewhere and for an empty domain."""
    return x.masked_fill(~domain, torch.finfo(x.dtype).min).softmax(-1) * domain


def check_name(what: str, name: str, allowed: Sequence[str]) -> None:
    """Raise ValueError for a name of an option that is not allowed."""
    if name not in allowed:
        raise ValueError(f"{what}={name!r} is unknown: expected {' or '.join(allowed)}")
