"""What the instruction asks of image tokens, and TransPrune's score of both.

    TTV_l = TTV(Attention_l) + TTV(FFN_l)        TTV_p = Σ_{l ∈ A, l ≤ p} TTV_l   (eq. 3, 4)
    IGA = 1/L Σ_j A_j, attention of the L instruction tokens to image tokens      (eq. 5)
    Score_p = α · TTV_p + (1 − α) · IGA_{p+1}                                     (eq. 6)

TTV is in `trpts.transition`. All sums are float32, whatever the model computes in.
"""

import torch

from trpts.transition import check_name, softmax_within

IGA = ("all_keys", "image_keys")


def guided_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    image: torch.Tensor,
    scaling: float,
    iga: str = "image_keys",
) -> torch.Tensor:
    """IGA (eq. 5): float32 [B, N], mean over heads and over a row's query tokens, 0 outside the
    image.

    q, k     [B, H, M, d] of the last M positions, [B, G, N, d] of all, G key heads shared by H / G
             query heads each; with their position embedding
    queries  bool [B, M], the instruction tokens among the last M; at least one in a row with images
    keys     bool [B, N], tokens that may be seen: no padding. What comes after a query is never
             seen
    image    bool [B, N]
    iga      "image_keys": softmax over the image tokens, as eq. 5 reads; "all_keys": over all a
             query sees, of which the image's share is taken (the released code): heads that look
             elsewhere count less
    raises   ValueError: unknown iga, a row without a query
    """
    check_name("iga", iga, IGA)
    asked = queries.any(1) | ~image.any(1)  # a row of text is not ranked
    if not asked.all():
        raise ValueError(
            f"row {asked.long().argmin()} has no instruction token: expected text behind "
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
        each = softmax_within(logits, seen.expand_as(logits)).mean(1)  # [B, M, N]
        total = (each * queries[:, :, None]).sum(1)  # [B, N]
    return (total / queries.sum(1, keepdim=True).clamp_min(1)).masked_fill(~image, 0.0)


def weighted(
    ttv: torch.Tensor, iga: torch.Tensor, alpha: float = 0.5, normalise: bool = False
) -> dict[str, torch.Tensor]:
    """The two parts of the score (eq. 6), which is their sum: α · TTV and (1 − α) · IGA, [B, N].

    normalise  False: as they are (the paper); True: each sums to 1 in its row first (the released
               code)
    """
    if normalise:
        ttv, iga = (
            x / x.sum(1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny) for x in (ttv, iga)
        )
    return {"ttv": alpha * ttv, "iga": (1 - alpha) * iga}
