"""The linear probe that gives every method the same first head, and accuracy."""

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from trpts.data.task import AnySplit, check_labels
from trpts.layers import classifier

# how far the logit of a class without a training image starts below the others'
UNSEEN_MARGIN = 4.0


class Diverged(ValueError):
    """Losses or logits are no longer finite numbers."""


@torch.no_grad()
def features(model: nn.Module, split: AnySplit, batch_size: int = 256) -> torch.Tensor:
    """What the head sees, [S, D], in eval mode (timm's `forward_head(..., pre_logits=True)`)."""
    was_training = model.training
    model.eval()
    parts = [
        model.forward_head(model.forward_features(x), pre_logits=True)
        for x, _ in split.batches(batch_size)
    ]
    model.train(was_training)
    return torch.cat(parts)


def probe_head(model: nn.Module, split: AnySplit, l2: float = 1e-3) -> None:
    """Put a linear probe into the model's head: multinomial logistic regression on frozen features.

    minimises  1/S Σ_s L_CE(V f̂_s + c, y_s) + l2/2 ‖V‖²,  f̂ the features f brought to mean 0 and
    variance 1 over the split (convex: one answer, no seed; unscaled, features of a random backbone
    take thousands of steps). The head then takes plain features again: W = V / std, b = c − W·mean.

    Gradient-based scores need a head that knows the task: behind a head of zeros every gradient is
    zero, behind a random one its direction is chance. The paper does not say which head it scores
    with; we probe first. Classes that the split does not hold (VTAB-1k's lists are not stratified)
    get no weights and a bias below all others.
    """
    put_head(
        model, fit_probe(features(model, split), split.labels, classifier(model).out_features, l2)
    )


def fit_probe(
    f: torch.Tensor, labels: torch.Tensor, n_classes: int, l2: float = 1e-3
) -> tuple[torch.Tensor, torch.Tensor]:
    """(W [K, D], b [K]) of the probe on features f [S, D], in float64: see `probe_head`."""
    y = labels.cpu().long()  # a uint8 index would be a mask
    if not f.isfinite().all():
        raise ValueError(
            "the features are not finite numbers: look for inf or NaN in weights and images"
        )
    if len(y.unique()) < 2 or y.min() < 0 or y.max() >= n_classes:
        raise ValueError(
            f"labels {y.unique().tolist()} for a head of {n_classes}: expected at least two of them"
        )
    scaler = StandardScaler()
    x = scaler.fit_transform(f.cpu().double().numpy())
    # Of two classes scikit-learn fits one row, the log-odds v; with V = ∓v/2 the penalty ‖V‖² is
    # ‖v‖²/2, so C doubles.
    C = (2 if len(y.unique()) == 2 else 1) / (l2 * len(y))
    fit = LogisticRegression(C=C, max_iter=2000, tol=1e-5).fit(x, y.numpy())
    V, c = torch.tensor(fit.coef_), torch.tensor(fit.intercept_)
    if len(V) == 1:
        V, c = torch.cat([-V / 2, V / 2]), torch.cat([-c / 2, c / 2])
    seen = V / torch.tensor(scaler.scale_)  # [classes seen, D]
    bias = c - seen @ torch.tensor(scaler.mean_)
    W = torch.zeros(n_classes, seen.shape[1], dtype=torch.float64)
    b = torch.zeros(n_classes, dtype=torch.float64)
    W[fit.classes_], b[fit.classes_] = seen, bias
    unseen = torch.ones(n_classes, dtype=torch.bool)
    unseen[fit.classes_] = False
    # On the training images the seen logits start at this level; without weights, a class stays
    # below it.
    b[unseen] = (f.cpu().double() @ seen.T + bias).min() - UNSEEN_MARGIN
    return W, b


@torch.no_grad()
def put_head(model: nn.Module, probe: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Set the model's head to (W, b)."""
    head = classifier(model)
    for parameter, value in zip((head.weight, head.bias), probe, strict=True):
        parameter.copy_(value.to(parameter))


@torch.no_grad()
def accuracy(model: nn.Module, split: AnySplit, batch_size: int = 256) -> float:
    """Share of samples whose largest logit is their label, in [0, 1].

    raises  ValueError: an empty split, a label without a logit; Diverged: a logit is NaN
    """
    if not len(split):
        raise ValueError("the split is empty: expected a sample")
    was_training = model.training
    right = 0.0
    model.eval()
    try:
        for x, y in split.batches(batch_size):
            logits = model(x)
            check_labels(y, logits.shape[1])
            right += (largest_logit(logits) == y).sum().item()
    finally:
        model.train(was_training)
    return right / len(split)


def largest_logit(logits: torch.Tensor) -> torch.Tensor:
    """The class of the largest logit, [B, K] -> int64 [B]; Diverged for NaN: argmax takes it."""
    if logits.isnan().any():
        raise Diverged(
            f"{int(logits.isnan().any(1).sum())} of {len(logits)} images have logits that are "
            "NaN: the weights or the images are broken"
        )
    return logits.argmax(1)
