"""Diagonal Fisher information: which connections does a task hold on to?

TR-PTS scores each weight by the diagonal of the empirical Fisher information matrix,

    F(θ) ≈ E_{(x,y)~D} [ (∂L_CE(x, y; θ) / ∂θ)² ]                           (TR-PTS, section 3)

with the data set's own labels y. For a Linear layer  z_n = W x_n + b  over the tokens n of one
sample s, the gradient is a sum of outer products,  G_s = Σ_n g_n x_nᵀ  with  g_n = ∂L_s/∂z_n,  so
that one backward pass of a whole batch holds every sample's own gradient: keep x and g of each
layer, form G_s, square, add up. No weight gradient of the batch is ever computed.
"""

import torch
from torch import nn
from torch.nn import functional

# layer_signals and scored_layers are offered here too
from trpts.signals import Batches, Loss, Scores, backward_through, checked, layer_signals, non_empty

SAMPLES = ("per-sample", "batch")
LABELS = ("data", "model")
ZERO_HEAD = "a head of zeros sends no gradient back; initialise or probe it first"


def fisher_scores(
    model: nn.Module,
    batches: Batches,
    *,
    samples: str = "per-sample",
    labels: str = "data",
    seed: int = 0,
    patches: bool = False,
) -> Scores:
    """Score every Linear weight of `model`, head excepted, by its diagonal Fisher information.

    per-sample:  F = 1/S Σ_s G_s²                S samples, G_s the gradient of sample s's own loss
    batch:       F = 1/M Σ_m (1/B Σ_{s∈m} G_s)²  M batches: squares of means, where signs cancel

    labels="model" draws each label from the model's own prediction p(y|x; θ) instead (by `seed`):
    the true Fisher information, of which the one with the data's labels, "data", is called the
    empirical version. FISH mask's code takes the expectation over y exactly, Σ_k p_k G_k², with one
    backward pass for each class; we draw one label per sample, which has the same mean at the
    empirical version's cost, whatever the number of classes.

    The paper does not say which of the two it means; "per-sample" is the literal reading of its
    formula and the default. Nor does it say in which mode the model runs; we use eval mode, so that
    dropout adds no noise, with gradient checkpointing off. Under autocast the model runs as it does
    there; G_s is formed in float32.

    patches  whether the patch embedding is scored as well: a Linear layer over the pixels of a
             patch

    model    a classifier: images [B, ...] -> logits [B, K]; scored as given, its head left alone
    batches  iterable of (images [B, ...], labels [B] of class numbers, of any whole-number type)
    returns  {module name: float32 tensor [out, in], >= 0}, in the order of model.named_modules()
    raises   ValueError: unknown `samples` or `labels`, no batch, labels that do not fit the logits,
             a head without any signal (all weights zero: every gradient behind it is exactly zero),
             values that are not finite, a Linear layer that the loss does not depend on, or whose
             output is changed in place
    """
    if samples not in SAMPLES:
        raise ValueError(f"samples={samples!r} is unknown: expected one of {', '.join(SAMPLES)}")
    if labels not in LABELS:
        raise ValueError(f"labels={labels!r} is unknown: expected one of {', '.join(LABELS)}")
    n_samples = n_batches = 0
    loss = drawn_label_loss(torch.Generator().manual_seed(seed)) if labels == "model" else None
    with layer_signals(model, patches) as captured:
        weights = {name: layer.weight for name, layer in captured.layers.items()}
        totals = {
            name: torch.zeros_like(w, dtype=torch.float32).flatten(1) for name, w in weights.items()
        }
        for images, y in non_empty(batches):
            n_samples, n_batches = n_samples + len(y), n_batches + 1
            for part in captured.parts(model, images, y, samples == "per-sample"):
                for name, (x, g) in backward_through(model, *part, captured, loss).items():
                    if x is not None and len(x) != len(part[1]):
                        raise ValueError(
                            f"layer {name} sees {len(x)} rows for {len(part[1])} samples: "
                            "expected one per sample"
                        )
                    _add_squares(totals[name], x, g, samples, len(part[1]))
    for total in totals.values():
        total /= n_samples if samples == "per-sample" else n_batches
    return checked(totals, ZERO_HEAD)


def drawn_label_loss(generator: torch.Generator) -> Loss:
    """The summed cross-entropy with labels drawn from the model's own prediction."""

    def loss(model, images, labels):
        logits = model(images).float()  # [B, K]
        p = logits.detach().softmax(1).cpu()
        if not torch.isfinite(p).all():
            raise ValueError("the logits are not finite: look for inf or NaN in weights and images")
        drawn = torch.multinomial(p, 1, generator=generator)[:, 0]  # [B]
        return functional.cross_entropy(logits, drawn.to(logits.device), reduction="sum")

    return loss


def _add_squares(total, x, g, samples, n):
    """Add the squared gradients of n samples to total [out, in]."""
    with torch.autocast(total.device.type, enabled=False):
        if x is None or samples == "batch":
            summed = g if x is None else torch.einsum("bno,bni->oi", g, x)  # [out, in]
            total.add_((summed / n).float().square_())
            return
        # one sample at a time: it stays in the cache
        G = torch.empty(total.shape, dtype=g.dtype, device=g.device)
        for xs, gs in zip(x, g, strict=True):
            grad = torch.mm(gs.T, xs, out=G).float()  # [out, in]
            total.addcmul_(grad, grad)
