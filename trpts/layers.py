"""Which layers of a model are scored, which are its head, and who reads their weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# what a model without timm's `get_classifier` calls its head
HEADS = ("head", "heads", "classifier", "fc")
SECOND_HEAD = "head_dist"  # of a distilled model, beside the first
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
    named = [m for name in HEADS if isinstance(m := getattr(model, name, None), nn.Module)]
    second = getattr(model, SECOND_HEAD, None)
    return [*(named or [nn.Identity()])[:1], *([second] if isinstance(second, nn.Module) else [])]


def classifier(model: nn.Module) -> nn.Linear:
    """The model's head, where it is one Linear layer; ValueError that says what it is instead."""
    found, name = heads(model), type(model).__name__
    if len(found) > 1:
        raise ValueError(
            f"{name} has {len(found)} heads, as distilled models have: expected a model with one"
        )
    if not isinstance(found[0], nn.Linear):
        where = "timm's get_classifier()" if hasattr(model, "get_classifier") else "its attributes"
        raise ValueError(
            f"{name} has no linear head: {where} gave a {type(found[0]).__name__}, expected a "
            f"Linear layer, called {', '.join(HEADS)} where the model is not timm's"
        )
    return found[0]


def head_name(model: nn.Module) -> str:
    """The name of the model's one linear head; raises as `classifier`."""
    head = classifier(model)
    return next(name for name, module in model.named_modules() if module is head)


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


def pixels_of_patches(x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Images [B, c, H, W] -> patches' pixels [B, h·w, c·height·width], in the weight's order."""
    (B, c, H, W), (height, width) = x.shape, size
    x = x.reshape(B, c, H // height, height, W // width, width)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(B, (H // height) * (W // width), c * height * width)
