"""What a layer saw, and what came back: forward and backward captured once, for every score that
asks for gradients.

Hooks keep the input x and the gradient g = ∂loss/∂z of every layer that is called once, with one
row for each sample, and whose weight is used nowhere else. Other layers cannot be read that way:
their weight is used past their `forward` (timm's EVA, BeiT and SwinV2 call `F.linear(x,
self.qkv.weight)`, `nn.MultiheadAttention` reads `out_proj.weight`), they are called twice, or they
see windows of an image as rows. Their gradient is the weight's own, by autograd; that of one
sample, in a pass of that sample alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from trpts.data.task import Split
from trpts.layers import WeightUses, frozen_in_eval, pixels_of_patches, scored_layers

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]  # images [B, ...], labels [B]
Scores = dict[str, torch.Tensor]  # {layer: float32 [out, in], >= 0}
ScoreFunction = Callable[..., Scores]  # of a model and batches
Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]  # of a batch; a scalar


def non_empty(batches: Batches) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the batches, copied if made in inference mode; refuse an empty one, or none at all."""
    n_batches = 0
    for images, labels in batches:
        if len(Split(images, labels)) == 0:  # which refuses what is no batch
            raise ValueError("a batch is empty: every batch needs at least one sample")
        n_batches += 1
        # autograd cannot keep those
        images, labels = (t.clone() if t.is_inference() else t for t in (images, labels))
        yield images, labels
    if not n_batches:
        raise ValueError("batches is empty: a score needs at least one sample")


def checked(scores: Scores, why_zero: str | None = None) -> Scores:
    """The scores themselves; refuse what is not finite and, where a reason is given, all zeros."""
    for name, score in scores.items():
        if not torch.isfinite(score).all():
            raise ValueError(
                f"the score of layer {name} is not finite: look for inf or NaN in "
                "weights and images"
            )
    if why_zero and not any(score.any() for score in scores.values()):
        raise ValueError(f"every score is zero: {why_zero}")
    return scores


class Captured(dict):
    """{name: (x, z, version of z)} of the scored layers' inputs and outputs, filled by hooks during
    a forward pass.

    z is None where gradients are off.

    others  {name: weight} of the layers whose gradient the hooks cannot tell; None: not looked for
            yet
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.layers = layers
        self.others: dict[str, torch.Tensor] | None = None
        self.rows: dict[str, list[int]] | None = None

    def parts(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, each: bool
    ) -> Batches:
        """The batch, or single samples where each one's gradient is wanted and `others` exist."""
        if self.others is None:
            self.rows = {name: [] for name in self.layers}
            try:
                with torch.no_grad(), WeightUses(self.layers) as found:
                    model(images[[0, 0]])
            finally:
                rows, self.rows = self.rows, None
            plain = {name for name in self.layers if rows[name] == [2] and found.uses[name] == 1}
            self.others = {
                name: layer.weight for name, layer in self.layers.items() if name not in plain
            }
            for weight in self.others.values():
                weight.requires_grad_(True)
        alone = each and self.others
        return zip(images.split(1), labels.split(1), strict=True) if alone else [(images, labels)]


@contextmanager
def layer_signals(model: nn.Module, patches: bool = False) -> Iterator[Captured]:
    """Inside, each forward pass fills the `Captured` that this gives; `backward_through` empties
    it.

    The model is in eval mode and no parameter asks for a gradient; all is as before on exit.
    """
    with frozen_in_eval(model), _capture(scored_layers(model, patches)) as captured:
        yield captured


@contextmanager
def _capture(layers):
    """Hooks that fill a `Captured` during a forward pass; removed on exit."""
    captured, handles = Captured(layers), []

    def keep(name):
        def hook(module, inputs, z):
            if captured.rows is not None:
                captured.rows[name].append(len(inputs[0]))
                return z
            if name in (captured.others or ()):
                return z
            again = name in captured
            # else a checkpoint computes it anew, going backward
            if again and torch._C._current_graph_task_id() < 0:
                raise ValueError(
                    f"layer {name} is used twice in one forward pass: shared weights "
                    "are not supported"
                )
            # weights are frozen: the graph starts here
            if torch.is_grad_enabled() and not z.requires_grad:
                z = z.detach().requires_grad_()
            x = inputs[0].detach()
            if isinstance(module, nn.Conv2d):
                x = pixels_of_patches(x, module.kernel_size)
            if not again:
                captured[name] = (x, z, z._version) if torch.is_grad_enabled() else (x, None, None)
            return z

        return hook

    try:
        handles += [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
        yield captured
    finally:
        for handle in handles:
            handle.remove()


def backward_through(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    captured: Captured,
    loss: Loss | None = None,
) -> dict[str, tuple[torch.Tensor | None, torch.Tensor]]:
    """One forward and backward pass: {layer: (x, ∂loss/∂z)}, both [B, N, features]; `captured` is
    empty again.

    Of the layers in `captured.others` (None, Σ_s G_s [out, in]), the gradient of their weight.

    loss    (model, images, labels) -> scalar; None: Σ_s L_CE of the samples, so that each g belongs
            to its sample
    raises  ValueError: a layer that the loss does not depend on, or whose output is changed in
            place
    """
    value = (
        cross_entropy_sum(model, images, labels) if loss is None else loss(model, images, labels)
    )
    for name, (_, z, version) in captured.items():
        # z now holds, and leads the gradient to, what the change made of it
        if z is not None and z._version != version:
            raise ValueError(
                f"the output of layer {name} is changed in place by the operation behind it"
            )
    others = captured.others or {}
    sources = {name: z for name, (_, z, _) in captured.items() if z is not None} | others
    with torch.autocast(value.device.type, enabled=False):
        grads = (
            torch.autograd.grad(value, list(sources.values()), allow_unused=True)
            if value.requires_grad
            else ()
        )
    gradients = dict(zip(sources, grads, strict=False))
    found: dict[str, tuple[torch.Tensor | None, torch.Tensor]] = {}
    for name in captured.layers:
        g = gradients.get(name)
        if g is None:
            raise ValueError(
                f"the loss does not depend on layer {name}: it is out of use, or gradients do not "
                "get there (no_grad, detach, reentrant checkpointing)"
            )
        if name in others:
            found[name] = None, g.flatten(1)
            continue
        x = captured[name][0]
        kind = torch.promote_types(x.dtype, g.dtype)  # autocast mixes types
        if x.ndim < g.ndim:  # a convolution's z is [B, out, h, w]
            g = g.flatten(2).transpose(1, 2)  # [B, h·w, out]
        x, g = (t.reshape(len(t), -1, t.shape[-1]).to(kind) for t in (x, g))
        found[name] = x, g
    captured.clear()
    return found


def cross_entropy_sum(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Σ_s L_CE, after a look at labels and logits."""
    logits = model(images)  # [B, K]
    if not isinstance(logits, torch.Tensor):
        raise ValueError(f"the model gives a {type(logits).__name__}: expected logits [B, K]")
    if labels.ndim != 1 or labels.is_floating_point():
        raise ValueError(
            f"labels are {labels.dtype} {list(labels.shape)}: expected class numbers [B]"
        )
    if logits.ndim != 2 or len(logits) != len(labels):
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} do not fit {len(labels)} labels: expected "
            "[B, K]"
        )
    labels = labels.long()
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}, the head knows 0 to "
            f"{logits.shape[1] - 1}"
        )
    return functional.cross_entropy(logits.float(), labels, reduction="sum")
