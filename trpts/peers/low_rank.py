"""LoRA and SHiRA, as PEFT has them: merged into the weights at the end, so that inference costs
nothing extra.

PEFT changes what a layer's `forward` gives. A model that uses the layer's weight past it (timm's
EVA, BeiT, SwinV2) reads the frozen one there; we let it read the weight with what is learnt in it.
"""

import functools
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from trpts.data.task import Task
from trpts.layers import classifier, scored_layers
from trpts.methods import Prepared, method

LAYERS = ("qkv", "proj", "fc1", "fc2")


def chosen_layers(model: nn.Module, layers: Collection[str]) -> list[str]:
    """Names of the blocks' Linear layers whose own name is in `layers`."""
    return [name for name in scored_layers(model) if name.rsplit(".", 1)[-1] in layers]


def check_low_rank(
    model: nn.Module, *, r: int = 8, layers: Collection[str] = LAYERS, **options: Any
) -> None:
    """Raise ValueError for a rank or layers that do not fit; ImportError without PEFT."""
    _peft()
    names = chosen_layers(model, layers)
    if not names:
        raise ValueError(
            f"layers={layers}: the model has no such Linear layers; expected some of "
            f"{', '.join(LAYERS)}"
        )
    narrowest = min(min(model.get_submodule(name).weight.shape) for name in names)
    if not (isinstance(r, int) and 1 <= r <= narrowest):
        raise ValueError(f"r={r!r}: expected a rank from 1 to {narrowest}")
    alpha = options.get("alpha")
    if alpha is not None and alpha <= 0:
        raise ValueError(f"alpha={alpha}: expected a scale above 0")


@method("lora", check_low_rank)
def prepare_lora(
    model: nn.Module,
    task: Task,
    seed: int,
    *,
    r: int = 8,
    alpha: float | None = None,
    layers: Collection[str] = LAYERS,
) -> Prepared:
    """W + (α / r) B A with A [r, in] drawn and B [out, r] zero (LoRA, Hu et al., 2022): r (in +
    out) for each layer.

    alpha   α; None: r, so that the factor is 1
    layers  which of a block's Linear layers. The paper adapts queries and values, vision benchmarks
            mostly all
    """
    config = {"r": r, "lora_alpha": r if alpha is None else alpha, "lora_dropout": 0.0}
    return _adapted(
        model, _peft().LoraConfig(**config, target_modules=chosen_layers(model, layers)), seed
    )


@method("shira", check_low_rank)
def prepare_shira(
    model: nn.Module, task: Task, seed: int, *, r: int = 1, layers: Collection[str] = LAYERS
) -> Prepared:
    """r (in + out) entries of each weight at random places (SHiRA, Bhardwaj et al., 2024)."""
    config = _peft().ShiraConfig(r=r, random_seed=seed, target_modules=chosen_layers(model, layers))
    return _adapted(model, config, seed)


def _adapted(model, config, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _peft().inject_adapter_in_model(config, model)
    for layer in _adapters(model).values():
        layer.__class__ = _read_past_forward(type(layer))  # type: ignore[arg-type]  # is hashable
    classifier(model).requires_grad_(True)
    return Prepared(finish=lambda: merge(model))


def merge(model: nn.Module) -> None:
    """Add what was learnt to the weights and take PEFT's layers out, in place: a plain model."""
    for name, layer in _adapters(model).items():
        layer.merge()
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
    vars(model).pop("peft_config", None)


def _adapters(model):
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: m for name, m in model.named_modules() if isinstance(m, BaseTunerLayer)}


@functools.cache
def _read_past_forward(kind):
    """PEFT's class of a layer, whose `weight` holds what is learnt; `forward` uses `base_layer`."""

    def weight(layer):
        weight = layer.get_base_layer().weight
        for adapter in () if layer.merged or layer.disable_adapters else layer.active_adapters:
            weight = weight + layer.get_delta_weight(adapter)
        return weight

    return type(kind.__name__, (kind,), {"weight": property(weight), "__module__": kind.__module__})


def _peft():
    try:
        import peft
    except ImportError as error:
        raise ImportError("LoRA and SHiRA need PEFT: `pip install trpts[peers]`") from error
    return peft
