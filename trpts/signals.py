"""What a layer saw, and what came back: forward and backward captured once, for every score that
asks for gradients.

Hooks keep the input x and the gradient g = ∂loss/∂z of every layer that is called once, with one
row for each sample, and whose weight is used nowhere else. Other layers cannot be read that way:
their weight is used past their `forward` (timm's EVA, BeiT and SwinV2 call `F.linear(x,
self.qkv.weight)`, `nn.MultiheadAttention` reads `out_proj.weight`), they are called twice, or they
see windows of an image as rows. Their gradient is the weight's own, by autograd; that of one
sample, in a pass of that sample alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]  # images [B, ...], labels [B]
Scores = dict[str, torch.Tensor]  # {layer: float32 [out, in], >= 0}
ScoreFunction = Callable[..., Scores]  # of a model and batches
Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]  # of a batch; a scalar

# what a model without timm's `get_classifier` calls its head
HEADS = ("head", "heads", "classifier", "fc")
# attributes of a weight by which a gradient gets back to it; `shape` is none
LEADING = ("T", "mT", "H", "mH")
# timm's switch, transformers' switch
CHECKPOINTING = ("grad_checkpointing", "gradient_checkpointing")


def scored_layers(model: nn.Module, patches: bool = False) -> dict[str, nn.Module]:
    """The layers that are scored, {name: module}: every Linear but those of the classifier `heads`.

    patches  whether timm's patch embedding, a convolution, is among them
    """
    outside = {m for head in heads(model) for m in head.modules()}
    embed = getattr(getattr(unwrapped(model), "patch_embed", None), "proj", None)
    if patches and not isinstance(embed, nn.Conv2d):
        raise ValueError(
            f"{type(model).__name__} has no patch_embed.proj that is a convolution: "
            "expected patches=False"
        )
    inside = {embed} if patches else set()
    layers = {
        n: m
        for n, m in model.named_modules()
        if m in inside or (isinstance(m, nn.Linear) and m not in outside)
    }
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no Linear layer besides its head: there is "
            "nothing to score"
        )
    return layers


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside a `DataParallel` or the like, else the model itself."""
    while not hasattr(model, "get_classifier") and isinstance(
        getattr(model, "module", None), nn.Module
    ):
        model = model.module
    return model


def heads(model: nn.Module) -> list[nn.Module]:
    """The modules of the classifier: timm's `get_classifier` (two if distilled), or by name."""
    model = unwrapped(model)
    if hasattr(model, "get_classifier"):
        found = model.get_classifier()
        return list(found) if isinstance(found, tuple) else [found]
    named = (getattr(model, name, None) for name in HEADS)
    return [next(m for m in (*named, nn.Identity()) if isinstance(m, nn.Module))]


def non_empty(batches: Batches) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the batches, copied if made in inference mode; refuse an empty one, or none at all."""
    n_batches = 0
    for images, labels in batches:
        if len(labels) == 0:
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


class WeightUses(TorchFunctionMode):
    """While it is open, notes every function of PyTorch that is given one of the layers' weights.

    uses    {name: how often}
    linear  (name, input) -> None, called for each `functional.linear(input, weight)`, whoever calls
            it
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        linear: Callable[[str, torch.Tensor], None] = lambda name, x: None,
    ) -> None:
        super().__init__()
        self.names = {m.weight: n for n, m in layers.items()}
        self.uses, self.linear = dict.fromkeys(layers, 0), linear

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        attribute = func.__self__.__name__ if getattr(func, "__name__", "") == "__get__" else None
        for given in (*args, *kwargs.values()) if attribute is None or attribute in LEADING else ():
            for tensor in given if isinstance(given, (list, tuple)) else [given]:
                if isinstance(tensor, nn.Parameter) and tensor in self.names:
                    self.uses[self.names[tensor]] += 1
        if func is functional.linear:
            named = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
            if named["weight"] in self.names:
                self.linear(self.names[named["weight"]], named["input"])
        return func(*args, **kwargs)


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
def frozen_in_eval(model: nn.Module) -> Iterator[None]:
    """Eval mode, all parameters frozen, no gradient checkpointing; as before on exit."""
    if any(p.is_inference() for p in model.parameters()):
        raise ValueError(
            "the model was made in inference mode, where no gradient can reach it: make it outside"
        )
    switches = ("training", *CHECKPOINTING)
    before = [
        (m, name, vars(m)[name]) for m in model.modules() for name in switches if name in vars(m)
    ]
    wanted = {p: p.requires_grad for p in model.parameters()}
    model.eval().requires_grad_(False)
    for module, name, _ in before:
        setattr(module, name, False)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        for parameter, flag in wanted.items():
            parameter.requires_grad_(flag)


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


def pixels_of_patches(x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Images [B, c, H, W] -> patches' pixels [B, h·w, c·height·width], in the weight's order."""
    (B, c, H, W), (height, width) = x.shape, size
    x = x.reshape(B, c, H // height, height, W // width, width)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(B, (H // height) * (W // width), c * height * width)
