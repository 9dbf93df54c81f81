"""Diagonal Fisher information: which connections does a task hold on to?

TR-PTS scores each weight by the diagonal of the empirical Fisher information matrix,

    F(θ) ≈ E_{(x,y)~D} [ (∂L_CE(x, y; θ) / ∂θ)² ]                                              (TR-PTS, section 3)

with the data set's own labels y. For a Linear layer  z_n = W x_n + b  over the tokens n of one sample s, the
gradient is a sum of outer products,  G_s = Σ_n g_n x_nᵀ  with  g_n = ∂L_s/∂z_n,  so that one backward pass of a
whole batch holds every sample's own gradient: keep x and g of each layer, form G_s, square, add up. No weight
gradient of the batch is ever computed.
"""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

SAMPLES = ("per-sample", "batch")
LABELS = ("data", "model")
ZERO_HEAD = "a head of zeros sends no gradient back; initialise or probe it first"


def fisher_scores(model, batches, samples="per-sample", labels="data", seed=0, patches=False):
    """Score every Linear weight of `model`, head excepted, by its diagonal Fisher information.

    per-sample:  F = 1/S Σ_s G_s²                S samples, G_s the gradient of sample s's own loss
    batch:       F = 1/M Σ_m (1/B Σ_{s∈m} G_s)²  M batches: squares of batch means, where signs cancel

    labels="model" draws each label from the model's own prediction p(y|x; θ) instead (by `seed`): the true Fisher
    information, of which the one with the data's labels, "data", is called the empirical version. FISH mask's code
    takes the expectation over y exactly, Σ_k p_k G_k², with one backward pass for each class; we draw one label per
    sample, which has the same mean at the empirical version's cost, whatever the number of classes.

    The paper does not say which of the two it means; "per-sample" is the literal reading of its formula and the
    default. Nor does it say in which mode the model runs; we use eval mode, so that dropout adds no noise.

    patches  whether the patch embedding is scored as well: a Linear layer over the pixels of a patch

    model    a classifier: images [B, ...] -> logits [B, K]; scored as given, its head left alone
    batches  iterable of (images [B, ...], labels [B] of class numbers)
    returns  {module name: float32 tensor [out, in], >= 0}, in the order of model.named_modules()
    raises   ValueError: unknown `samples` or `labels`, no batch, labels that do not fit the logits, a head without any
             signal (all weights zero: every gradient behind it is exactly zero), values that are not finite, a Linear
             layer that is used twice, not fed one row per sample, or whose output is changed in place
    """
    if samples not in SAMPLES:
        raise ValueError(f"samples={samples!r} is unknown: expected one of {', '.join(SAMPLES)}")
    if labels not in LABELS:
        raise ValueError(f"labels={labels!r} is unknown: expected one of {', '.join(LABELS)}")
    totals = {
        n: torch.zeros_like(layer.weight, dtype=torch.float32).flatten(1)
        for n, layer in scored_layers(model, patches).items()
    }
    n_samples = n_batches = 0
    loss = drawn_label_loss(torch.Generator().manual_seed(seed)) if labels == "model" else None
    with layer_signals(model, patches) as captured:
        for images, y in non_empty(batches):
            n_samples, n_batches = n_samples + len(y), n_batches + 1
            backward_through(model, images, y, captured, loss)
            for name, (x, g) in captured.items():  # x [B, N, in], g [B, N, out]
                if len(x) != len(y):
                    raise ValueError(f"layer {name} sees {len(x)} rows for {len(y)} samples: expected one per sample")
                _add_squares(totals[name], x, g, samples)
            captured.clear()
    for total in totals.values():
        total /= n_samples if samples == "per-sample" else n_batches
    return checked(totals, ZERO_HEAD)


def scored_layers(model, patches=False):
    """The layers that are scored, {name: module}: every Linear but the classifier head (timm's `get_classifier`).

    patches  whether timm's patch embedding, a convolution, is among them
    """
    head = model.get_classifier() if hasattr(model, "get_classifier") else getattr(model, "head", None)
    outside = set() if head is None else set(head.modules())
    embed = getattr(getattr(model, "patch_embed", None), "proj", None)
    if patches and not isinstance(embed, nn.Conv2d):
        raise ValueError(
            f"{type(model).__name__} has no patch_embed.proj that is a convolution: expected patches=False"
        )
    inside = {embed} if patches else set()
    layers = {n: m for n, m in model.named_modules() if m in inside or (isinstance(m, nn.Linear) and m not in outside)}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no Linear layer besides its head: there is nothing to score")
    return layers


def non_empty(batches):
    """Yield the batches; refuse one without samples, and none at all."""
    n_batches = 0
    for images, labels in batches:
        if len(labels) == 0:
            raise ValueError("a batch is empty: every batch needs at least one sample")
        n_batches += 1
        yield images, labels
    if not n_batches:
        raise ValueError("batches is empty: a score needs at least one sample")


def checked(scores, why_zero=None):
    """The scores themselves; refuse values that are not finite and, where a reason is given, zeros everywhere."""
    for name, score in scores.items():
        if not torch.isfinite(score).all():
            raise ValueError(f"the score of layer {name} is not finite: look for inf or NaN in weights and images")
    if why_zero and not any(score.any() for score in scores.values()):
        raise ValueError(f"every score is zero: {why_zero}")
    return scores


@contextmanager
def layer_signals(model, patches=False):
    """Inside, `backward_through` fills the dict that this gives with each scored layer's (x, g).

    The model is in eval mode and no parameter asks for a gradient; all is as before on exit.
    """
    with frozen_in_eval(model), _capture(scored_layers(model, patches)) as captured:
        yield captured


def drawn_label_loss(generator):
    """The summed cross-entropy with labels drawn from the model's own prediction."""

    def loss(model, images, labels):
        logits = model(images).float()  # [B, K]
        p = logits.detach().softmax(1).cpu()
        if not torch.isfinite(p).all():
            raise ValueError("the logits are not finite: look for inf or NaN in weights and images")
        drawn = torch.multinomial(p, 1, generator=generator)[:, 0]  # [B]
        return functional.cross_entropy(logits, drawn.to(logits.device), reduction="sum")

    return loss


@contextmanager
def frozen_in_eval(model):
    """Eval mode, no parameter asking for a gradient; both as before on exit."""
    was_training = {m: m.training for m in model.modules()}
    wanted = {p: p.requires_grad for p in model.parameters()}
    model.eval().requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, training in was_training.items():
            module.training = training
        for parameter, flag in wanted.items():
            parameter.requires_grad_(flag)


@contextmanager
def _capture(layers):
    """Hooks that fill a dict {name: (x, z, version of z)} during a forward pass; removed on exit."""
    captured, handles = {}, []

    def keep(name):
        def hook(module, inputs, z):
            if name in captured:
                raise ValueError(f"layer {name} is used twice in one forward pass: shared weights are not supported")
            if not z.requires_grad:  # weights are frozen: the graph starts at the first scored layer
                z = z.detach().requires_grad_()
            x = inputs[0].detach()
            if isinstance(module, nn.Conv2d):
                x = pixels_of_patches(x, module.kernel_size)
            captured[name] = (x, z, z._version)
            return z

        return hook

    try:
        handles += [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
        yield captured
    finally:
        for handle in handles:
            handle.remove()


def backward_through(model, images, labels, captured, loss=None):
    """One forward and backward pass; replace each captured (x, z, …) by (x, ∂loss/∂z), both [B, N, features].

    loss  (model, images, labels) -> scalar; None: Σ_s L_CE of the samples, so that each g belongs to its sample
    """
    value = cross_entropy_sum(model, images, labels) if loss is None else loss(model, images, labels)
    for name, (_, z, version) in captured.items():
        if z._version != version:  # z now holds, and leads the gradient to, what the change made of it
            raise ValueError(f"the output of layer {name} is changed in place by the operation behind it")
    outputs = [z for _, z, _ in captured.values()]
    gradients = torch.autograd.grad(value, outputs, allow_unused=True)
    for (name, (x, z, _)), g in zip(list(captured.items()), gradients, strict=True):
        g = torch.zeros_like(z) if g is None else g
        if x.ndim < g.ndim:  # a convolution's z is [B, out, h, w]
            g = g.flatten(2).transpose(1, 2)  # [B, h·w, out]
        captured[name] = (x.reshape(len(x), -1, x.shape[-1]), g.reshape(len(g), -1, g.shape[-1]))


def cross_entropy_sum(model, images, labels):
    """Σ_s L_CE, after a look at labels and logits."""
    logits = model(images)  # [B, K]
    if logits.ndim != 2 or len(logits) != len(labels):
        raise ValueError(f"logits of shape {tuple(logits.shape)} do not fit {len(labels)} labels: expected [B, K]")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}, the head knows 0 to {logits.shape[1] - 1}")
    return functional.cross_entropy(logits.float(), labels, reduction="sum")


def _add_squares(total, x, g, samples):
    """Add this batch's squared gradients to total [out, in]."""
    if samples == "batch":
        mean = torch.einsum("bno,bni->oi", g, x) / len(x)  # [out, in]
        total.add_(mean.float().square_())
        return
    G = torch.empty(total.shape, dtype=g.dtype, device=g.device)  # one sample at a time: it stays in the cache
    for xs, gs in zip(x, g, strict=True):
        grad = torch.mm(gs.T, xs, out=G).float()  # [out, in]
        total.addcmul_(grad, grad)


def pixels_of_patches(x, size):
    """Images [B, channels, H, W] cut into rows of pixels [B, h·w, channels·height·width], as the weight orders them."""
    (B, c, H, W), (height, width) = x.shape, size
    x = x.reshape(B, c, H // height, height, W // width, width)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(B, (H // height) * (W // width), c * height * width)
