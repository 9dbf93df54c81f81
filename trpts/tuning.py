"""Training: the loop, the linear probe that gives every method the same first head, and accuracy."""

import math
import sys
import time

import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

PROGRESS_EVERY_S = 5.0
UNSEEN_MARGIN = 4.0  # how far the logit of a class without a training image starts below the others'


def train(model, split, epochs, lr=2e-3, batch_size=32, weight_decay=0.05, warmup_fraction=0.1, seed=0):
    """Train all parameters that ask for gradients with AdamW: linear warm-up, then cosine, no augmentation.

    Progress goes to stderr as plain lines, one every few seconds at most. `seed` orders the batches.
    returns  mean training loss of each epoch, list of `epochs` floats
    raises   ValueError: epochs below 1, or a loss that is not finite
    """
    if epochs < 1:
        raise ValueError(f"epochs={epochs}: expected at least 1")
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    n_steps = epochs * math.ceil(len(split) / batch_size)
    n_warmup = max(1, round(warmup_fraction * n_steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, n_warmup, n_steps))
    losses, spoken = [], time.monotonic()
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for images, labels in split.batches(batch_size, generator):
            loss = functional.cross_entropy(model(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(labels)
        losses.append(total / len(split))
        if not math.isfinite(losses[-1]):
            raise ValueError(f"the loss of epoch {epoch + 1} is {losses[-1]}: the learning rate {lr} is too high")
        if time.monotonic() - spoken > PROGRESS_EVERY_S:
            spoken = time.monotonic()
            print(f"epoch {epoch + 1}/{epochs}: loss {losses[-1]:.4f}", file=sys.stderr, flush=True)
    return losses


def warmup_cosine(step, n_warmup, n_steps):
    """The factor on the learning rate: rises linearly, then falls as half a cosine to zero."""
    if step < n_warmup:
        return (step + 1) / n_warmup
    return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(1, n_steps - n_warmup)))


@torch.no_grad()
def features(model, split, batch_size=256):
    """What the head sees, [S, D], in eval mode (timm's `forward_head(..., pre_logits=True)`)."""
    was_training = model.training
    model.eval()
    parts = [model.forward_head(model.forward_features(x), pre_logits=True) for x, _ in split.batches(batch_size)]
    model.train(was_training)
    return torch.cat(parts)


def probe_head(model, split, l2=1e-4):
    """Put a linear probe into the model's head: multinomial logistic regression on frozen features.

    minimises  1/S Σ_s L_CE(W f_s + b, y_s) + l2/2 ‖W‖²  (convex: one answer, no seed)

    Gradient-based scores need a head that knows the task: behind a head of zeros every gradient is zero, behind a
    random one its direction is chance. The paper does not say which head it scores with; we probe first. Classes that
    the split does not hold (VTAB-1k's lists are not stratified) get no weights and a bias below all others.
    """
    head, y = model.get_classifier(), split.labels.cpu()
    if len(y.unique()) < 2 or y.max() >= head.out_features:
        raise ValueError(
            f"labels {y.unique().tolist()} for a head of {head.out_features}: expected at least two of them"
        )
    x = features(model, split).cpu().double()
    fit = LogisticRegression(C=1 / (l2 * len(y)), max_iter=2000, tol=1e-6).fit(x.numpy(), y.numpy())
    weight, bias = torch.tensor(fit.coef_), torch.tensor(fit.intercept_)
    if len(weight) == 1:  # two classes: scikit-learn gives one row for the log-odds; half to each side
        weight, bias = torch.cat([-weight / 2, weight / 2]), torch.cat([-bias / 2, bias / 2])
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(bias.min() - UNSEEN_MARGIN)
        head.weight[fit.classes_] = weight.to(head.weight)
        head.bias[fit.classes_] = bias.to(head.bias)


@torch.no_grad()
def accuracy(model, split, batch_size=256):
    """Share of samples whose largest logit is their label, in [0, 1]."""
    was_training = model.training
    model.eval()
    right = sum((model(x).argmax(1) == y).sum().item() for x, y in split.batches(batch_size))
    model.train(was_training)
    return right / len(split)
