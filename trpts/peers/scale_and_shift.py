"""SSF: every layer's output is scaled and shifted; both are folded into the layer at the end."""

import torch
from torch import nn

from trpts.data.task import Task
from trpts.layers import classifier
from trpts.methods import Prepared, method


def scaled_layers(model: nn.Module) -> dict[str, nn.Module]:
    """{name: layer} that SSF follows: patch embedding, Linear layers and norms, not the head."""
    kinds = (nn.Linear, nn.LayerNorm, nn.Conv2d)
    head = classifier(model)
    return {name: m for name, m in model.named_modules() if isinstance(m, kinds) and m is not head}


def check_ssf(model: nn.Module) -> None:
    """Raise ValueError for a layer that a shift cannot be folded into."""
    bare = [name for name, layer in scaled_layers(model).items() if layer.bias is None]
    if bare:
        raise ValueError(f"{bare[0]} has no bias: SSF's shift could not be folded into it")


@method("ssf", check_ssf)
def prepare_ssf(model: nn.Module, task: Task, seed: int) -> Prepared:
    """y = γ ⊙ x + β behind each layer (SSF, Lian et al., 2022): 2 · out for each, 22 D a block with
    an MLP of 4 D.

    γ = 1 and β = 0 at first, so that nothing changes; the authors' code draws them close to that.
    """
    model.requires_grad_(False)
    classifier(model).requires_grad_(True)
    handles, layers = [], scaled_layers(model)
    for layer in layers.values():
        layer.gamma = nn.Parameter(torch.ones_like(layer.bias))
        layer.beta = nn.Parameter(torch.zeros_like(layer.bias))
        handles.append(layer.register_forward_hook(_scale_and_shift))

    def finish():
        for handle in handles:
            handle.remove()
        for layer in layers.values():
            fold(layer)

    return Prepared(finish=finish)


def _scale_and_shift(layer, inputs, x):
    # channels of [B, D, h, w], or [..., D]
    places = (-1, 1, 1) if isinstance(layer, nn.Conv2d) else (-1,)
    return x * layer.gamma.view(places) + layer.beta.view(places)


@torch.no_grad()
def fold(layer: nn.Module) -> None:
    """γ (W x + b) + β = (γ W) x + (γ b + β), in place; the same for a norm's weight and bias."""
    layer.weight.mul_(layer.gamma.view(-1, *[1] * (layer.weight.ndim - 1)))
    layer.bias.mul_(layer.gamma).add_(layer.beta)
    del layer.gamma, layer.beta
