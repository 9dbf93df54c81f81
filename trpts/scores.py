"""Rival scores: what else could say which connections matter. Each gives {layer: float32 [out, in]
>= 0}, as fisher.

The layers are those of `trpts.layers.scored_layers`, and `SCORES` names every score for tuning and
ablations. Those that look at batches raise ValueError for none or an empty one; no score hands back
values that are not finite.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from trpts.fisher import ZERO_HEAD, fisher_scores
from trpts.layers import WeightUses, frozen_in_eval, scored_layers
from trpts.signals import (
    Batches,
    ScoreFunction,
    Scores,
    backward_through,
    checked,
    layer_signals,
    non_empty,
)

TEMPERATURE = 0.07  # τ of the contrastive loss, as in GPS
MAX_SHIFT = 1 / 8  # of the image's side, of our views


def gradient_scores(model: nn.Module, batches: Batches) -> Scores:
    """|Σ_s ∂L_CE,s/∂W|: the gradient summed over all samples, where signs cancel, then its size.

    The first-order rival of the Fisher information: GPS's score below, with the loss of the task in
    place of the contrastive one. It needs a head that sends gradients back; one of zeros is
    refused.
    """
    return _summed(model, batches, None, ZERO_HEAD)


def gps_scores(
    model: nn.Module,
    batches: Batches,
    *,
    views: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None,
    seed: int = 0,
) -> Scores:
    """GPS's score: |Σ ∂L_SupCon/∂W|, the supervised contrastive loss of two views of each image;
    needs no head.

    L = −1/2B Σ_i 1/|P(i)| Σ_{p∈P(i)} log( exp(f_i·f_p/τ) / Σ_{a≠i} exp(f_i·f_a/τ) )

    over the 2B views of a batch, P(i) the other views of the same class, f the normalised features
    before the head (GPS, section 3; τ = 0.07).

    views   (images, generator) -> images. GPS draws SimCLR's views; ours, for small images, are a
            flip and a shift
    raises  ValueError: a model without timm's features before the head, batches without anything to
            contrast
    """
    if not (hasattr(model, "forward_features") and hasattr(model, "forward_head")):
        raise ValueError(
            f"{type(model).__name__} does not give its features before the head: expected a timm "
            "model"
        )
    generator = torch.Generator().manual_seed(seed)
    views = views or flipped_and_shifted

    def loss(model, images, labels):
        both = torch.cat([views(images, generator), views(images, generator)])
        f = model.forward_head(model.forward_features(both), pre_logits=True)
        return contrastive_loss(f, labels.repeat(2))

    return _summed(
        model,
        batches,
        loss,
        "the views of a batch do not contrast; several images, not one, go in it",
    )


def fps_scores(model: nn.Module, batches: Batches) -> Scores:
    """FPS's score: |w| · E|a|, a the activation that the weight multiplies, over samples and
    tokens; forward only.

    The product of arXiv 2510.27359; its code is not public.

    raises  ValueError: a layer whose weight is in no `functional.linear` that Python sees, so that
            a is not known: it is out of use, or PyTorch multiplies it inside another operation, as
            `nn.MultiheadAttention` its `out_proj`
    """
    sums: dict[str, Any]
    counts: dict[str, int]
    layers, sums, counts = scored_layers(model), {}, {}

    def add(name, x):
        a = x.detach().flatten(0, -2).float().abs()  # [B·N, in]
        sums[name], counts[name] = sums.get(name, 0) + a.sum(0), counts.get(name, 0) + len(a)

    with frozen_in_eval(model), torch.no_grad():
        for images, _ in non_empty(batches):
            with WeightUses(layers, linear=add):
                model(images)
        unseen = [name for name in layers if name not in counts]
        if unseen:
            raise ValueError(
                f"the input of layer {unseen[0]} is not to be seen: it is out of use, or PyTorch "
                "multiplies its weight inside another operation; expected another score"
            )
        mean = {name: sums[name] / counts[name] for name in layers}
    return checked({name: size * mean[name] for name, size in magnitude_scores(model).items()})


def magnitude_scores(model: nn.Module, batches: Batches = ()) -> Scores:
    """|w|: the same for every task, as NeuroAda selects."""
    return checked(
        {name: layer.weight.detach().float().abs() for name, layer in scored_layers(model).items()}
    )


def random_scores(model: nn.Module, batches: Batches = (), *, seed: int = 0) -> Scores:
    """Uniform in [0, 1): selection by chance, as SHiRA's random masks."""
    generator = torch.Generator().manual_seed(seed)
    layers = scored_layers(model)
    return {
        n: torch.rand(m.weight.shape, generator=generator).to(m.weight.device)
        for n, m in layers.items()
    }


def shuffled_fisher_scores(model: nn.Module, batches: Batches, *, seed: int = 0) -> Scores:
    """The Fisher information with its rows dealt anew among the neurons of each layer: a control,
    no method.

    A neuron gets the score of another one, so that every input is selected as often as by Fisher's
    score, and each layer has the same connections to give; only *which* neuron trains them is
    chance. What is left of a lead over it is due to the right connection, what is not to the right
    input.
    """
    generator = torch.Generator().manual_seed(seed)
    scores = fisher_scores(model, batches)
    return {
        n: s[torch.randperm(len(s), generator=generator).to(s.device)] for n, s in scores.items()
    }


def contrastive_loss(
    f: torch.Tensor, labels: torch.Tensor, temperature: float = TEMPERATURE
) -> torch.Tensor:
    """The supervised contrastive loss of features f [V, D] with labels [V]: see `gps_scores`."""
    f = functional.normalize(f.float(), dim=1)
    itself = torch.eye(len(f), dtype=torch.bool, device=f.device)
    logits = (f @ f.T / temperature).masked_fill(itself, -torch.inf)
    log_share = (logits - logits.logsumexp(1, keepdim=True)).masked_fill(itself, 0.0)
    positives = ((labels[:, None] == labels[None]) & ~itself).float()
    return -((log_share * positives).sum(1) / positives.sum(1).clamp_min(1)).mean()


def flipped_and_shifted(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image mirrored or not, and moved by up to MAX_SHIFT of its side, borders repeated."""
    B, _, H, W = images.shape
    reach = max(1, round(MAX_SHIFT * H))
    flip = torch.rand(B, generator=generator) < 0.5
    top, left = torch.randint(-reach, reach + 1, (2, B), generator=generator)
    rows = (torch.arange(H)[None] + top[:, None]).clamp(0, H - 1)  # [B, H]
    columns = (torch.arange(W)[None] + left[:, None]).clamp(0, W - 1)
    columns = torch.where(flip[:, None], columns.flip(1), columns).to(images.device)
    n = torch.arange(B, device=images.device)[:, None, None]
    return images[n, :, rows.to(images.device)[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _summed(model, batches, loss, why_zero):
    """|Σ gradient| of the scored layers over all batches."""
    with layer_signals(model) as captured:
        totals = {
            n: torch.zeros_like(m.weight, dtype=torch.float32) for n, m in captured.layers.items()
        }
        for images, labels in non_empty(batches):
            for part in captured.parts(model, images, labels, each=False):
                for name, (x, g) in backward_through(model, *part, captured, loss).items():
                    with torch.autocast(g.device.type, enabled=False):
                        totals[name] += (
                            g if x is None else g.flatten(0, 1).T @ x.flatten(0, 1)
                        ).float()
    return checked({name: total.abs() for name, total in totals.items()}, why_zero)


class Score(NamedTuple):
    """All that is known of a score.

    function  (model, batches) -> {layer: float32 [out, in] >= 0}
    label     in the figure that compares scores; None: it is compared elsewhere
    seeded    whether it takes seed=
    patches   whether it takes patches=True: the patch embedding is scored as well
    """

    function: ScoreFunction
    label: str | None = None
    seeded: bool = False
    patches: bool = False


SCORES = {
    "fisher": Score(fisher_scores, "Fisher", patches=True),
    "fisher_true": Score(partial(fisher_scores, labels="model"), "true Fisher", True, True),
    "fisher_batch": Score(
        partial(fisher_scores, samples="batch"), "Fisher of batch means", patches=True
    ),
    "gradient": Score(gradient_scores, "gradient"),
    "gps": Score(gps_scores, "GPS", seeded=True),
    "fps": Score(fps_scores, "FPS"),
    "magnitude": Score(magnitude_scores, "magnitude"),
    "random": Score(random_scores, "random", seeded=True),
    "fisher_shuffled": Score(shuffled_fisher_scores, seeded=True),
}


def score_named(name: str | ScoreFunction, seed: int = 0, patches: bool = False) -> ScoreFunction:
    """(model, batches) -> scores, of a name of SCORES or of such a function itself.

    patches  whether the patch embedding is scored as well
    raises   ValueError: an unknown name; a score that takes no patches where they are asked for
    """
    if not callable(name) and name not in SCORES:
        raise ValueError(
            f"score {name!r} is unknown: expected one of {', '.join(SCORES)}, or a function"
        )
    score = Score(name) if callable(name) else SCORES[name]
    if patches and not score.patches:
        able = ", ".join(name for name, other in SCORES.items() if other.patches)
        raise ValueError(
            f"patches=True with score={name!r}: expected one of {able}, which alone score the "
            "patch embedding"
        )
    options = {"seed": seed} if score.seeded else {}
    return partial(score.function, **options, **({"patches": True} if patches else {}))
