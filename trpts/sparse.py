"""Row-sparse tuning: a Linear layer that trains C_l connections of each neuron, and pays for them.

The update of TR-PTS, Θ ← Θ − η (M ⊙ ∇L) with a mask M, is usually computed as written: a dense
gradient, most of which is then thrown away. Here a layer keeps, for the backward pass, the few
input columns that its neurons selected, and computes the selected entries alone
(`trpts.sparse_gradient` has the equations). Forward is the plain layer with the tuned values in
place, so inference costs nothing extra; the gradient of the input is the dense one.

Where a model uses a layer's weight outside the layer's `forward` (timm's EVA,
`nn.MultiheadAttention`), the weight that it reads leads the gradient to the values all the same, by
way of a dense one.
"""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trpts.layers import heads, pixels_of_patches
from trpts.sparse_gradient import (
    GradientOfEntries,
    GradientOfValues,
    columns_and_local,
    write_values,
)


class _RowSparse(nn.Module):
    """What `attach` adds to a layer: `values` [out, C], buffers `index`, `columns`, `local`."""

    _parameters: dict[str, Any]  # a weight is among them: see `check_index`
    values: nn.Parameter
    index: torch.Tensor
    columns: torch.Tensor | None
    local: torch.Tensor

    @property
    def weight(self) -> torch.Tensor:
        """The weight as read outside `forward`: it holds the values; its gradient reaches them."""
        self.write()
        if torch.is_grad_enabled() and self.values.requires_grad:
            return GradientOfEntries.apply(self._parameters["weight"], self.values, self.index)
        return self._parameters["weight"]

    def write(self) -> None:
        """Put the values into the weight. Always: fused optimisers change a parameter without
        raising its version.

        Autograd does not see it, so that two forward passes may precede one backward; C entries a
        row, next to no time.
        """
        weight = self._parameters["weight"]
        write_values(
            weight if torch.compiler.is_compiling() else weight.data,
            self.index,
            self.values.detach(),
        )

    def _save_to_state_dict(self, *args, **kwargs):
        self.write()
        super()._save_to_state_dict(*args, **kwargs)

    def _with_gradient(self, z, x):
        if torch.is_grad_enabled() and self.values.requires_grad:
            # [..., |U|]
            kept = x.detach() if self.columns is None else x.detach().index_select(-1, self.columns)
            return GradientOfValues.apply(z, kept.to(z.dtype), self.values, self.local)
        return z


class SparseLinear(_RowSparse, nn.Linear):  # type: ignore[override]  # weight: read-only here
    """A Linear layer that trains C connections a neuron; `attach` makes it from an existing one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.write()
        return self._with_gradient(functional.linear(x, self._parameters["weight"], self.bias), x)


class SparsePatches(_RowSparse, nn.Conv2d):  # type: ignore[override]  # likewise
    """The same for a convolution that cuts patches: a Linear layer over each patch's pixels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [B, in, H, W]
        self.write()
        # [B, out, h, w]
        z = functional.conv2d(x, self._parameters["weight"], self.bias, self.stride)
        if not torch.is_grad_enabled():
            return z
        tokens = z.flatten(2).transpose(1, 2)  # [B, h·w, out]
        return (
            self._with_gradient(tokens, pixels_of_patches(x, self.kernel_size))
            .transpose(1, 2)
            .view_as(z)
        )


@functools.cache
def sparse_class(plain: type[nn.Module]) -> type[nn.Module] | None:
    """The class of an attached layer that was of class `plain`, None for one that cannot be
    attached.

    A subclass of Linear keeps its own `forward`, whatever it is, and pays for a dense gradient.
    """
    known = {nn.Linear: SparseLinear, nn.Conv2d: SparsePatches}
    if plain in known or not issubclass(plain, nn.Linear):
        return known.get(plain)
    return type(
        f"Sparse{plain.__name__}",
        (_RowSparse, plain),
        {"__doc__": f"A {plain.__name__}, attached."},
    )


@torch.inference_mode(False)  # what is made there can never be trained
def attach(model: nn.Module, index: Mapping[str, torch.Tensor], *, biases: bool = True) -> None:
    """Make `model` train the indexed connections, the biases of their layers and the head; freeze
    the rest. In place.

    index   {layer name: int64 [out, C]}, each row ascending without repeats (`Allocation.select`);
            layers are Linear, or a patch embedding. Empty: only the head is trained.
    biases  whether the layers' biases are trained. The paper does not say; its parameter counts fit
            if they are
    raises  ValueError: already attached, an unknown or unfit layer, an index that does not fit it;
            the model is untouched then
    """
    if attached(model):
        raise ValueError("the model has selected connections already: detach it first")
    modules = dict(model.named_modules())
    for name, places in index.items():
        check_index(name, modules.get(name), places)
    tensors: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {}
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    vars(model)["_before_attach"] = {"requires_grad": wanted, "tensors": tensors}
    model.requires_grad_(False)
    for head in heads(model):
        head.requires_grad_(True)
    for name, places in index.items():
        layer = modules[name]
        rows = layer.weight.detach().view(len(places), -1)
        places = places.to(rows.device, copy=True)
        values = rows.gather(1, places)
        layer.__class__ = sparse_class(type(layer))  # type: ignore[arg-type]  # is hashable
        layer.values = nn.Parameter(
            values.to(torch.promote_types(values.dtype, torch.float32), copy=True)
        )
        columns, local = columns_and_local(places, rows.shape[1])
        for buffer, tensor in {"index": places, "columns": columns, "local": local}.items():
            layer.register_buffer(buffer, tensor, persistent=False)
        tensors[name] = values, None if layer.bias is None else layer.bias.detach().clone()
        if biases and layer.bias is not None:
            layer.bias.requires_grad_(True)


def detach(model: nn.Module) -> None:
    """Turn an attached model into a plain one again, with the tuned weights in place. In place."""
    for layer in sparse_layers(model).values():
        layer.write()
        layer.__class__ = type(layer).__bases__[1]  # behind _RowSparse
        del layer.values, layer.index, layer.columns, layer.local
    before = vars(model).pop("_before_attach", None)
    if before is None:
        raise ValueError("the model has no selected connections: nothing to detach")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(before["requires_grad"][name])


def attached(model: nn.Module) -> bool:
    """Whether `attach` was called and not yet undone."""
    return "_before_attach" in vars(model)


def sparse_layers(model: nn.Module) -> dict[str, _RowSparse]:
    """The attached layers, {name: module}."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _RowSparse)}


def check_index(name: str, layer: nn.Module | None, places: torch.Tensor) -> None:
    """Raise ValueError unless `places` [out, C] are inputs of `layer`, ascending, none twice."""
    if layer is None or sparse_class(type(layer)) is None:  # type: ignore[arg-type]  # is hashable
        found = "no such layer" if layer is None else f"a {type(layer).__name__}"
        raise ValueError(f"{name} is {found}: expected a Linear layer or a patch embedding")
    if "weight" not in layer._parameters:
        raise ValueError(
            f"the weight of {name} is made of other parameters (pruned, normalised): "
            "expected its own"
        )
    if isinstance(layer, nn.Conv2d) and not _cuts_patches(layer):
        raise ValueError(
            f"{name} is a convolution whose windows overlap, are padded or grouped: "
            "expected patches"
        )
    out, fan_in = len(layer.weight), layer.weight[0].numel()
    if (
        places.ndim != 2
        or len(places) != out
        or places.dtype != torch.int64
        or not 1 <= places.shape[1] <= fan_in
    ):
        raise ValueError(
            f"the index of {name} is {places.dtype} {list(places.shape)}: "
            f"expected int64 [{out}, 1 to {fan_in}]"
        )
    if places[:, 0].min() < 0 or places[:, -1].max() >= fan_in or (places.diff(dim=1) <= 0).any():
        raise ValueError(
            f"the index of {name} has rows that do not ascend from 0 to {fan_in - 1} "
            "without repeats"
        )


def _cuts_patches(conv):
    return (
        conv.kernel_size == conv.stride
        and conv.groups == 1
        and set(conv.padding) == {0} == {d - 1 for d in conv.dilation}
    )
