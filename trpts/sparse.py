"""Row-sparse tuning: a Linear layer that trains C_l connections of each neuron, and pays for them.

The update of TR-PTS, Θ ← Θ − η (M ⊙ ∇L) with a mask M, is usually computed as written: a dense
gradient, most of which is then thrown away. Every row of M has exactly C_l ones, so that the
selected entries fit a rectangle, and

    ∂L/∂V[o, k] = Σ_n g[n, o] · x[n, index[o, k]]    x [T, in], g = ∂L/∂z [T, out], index [out, C_l]

is the whole gradient. It reads only the input columns that some neuron selects. Call them U,
sorted, and let local[o, k] be the position of index[o, k] in U. Then

    ∂L/∂V = (gᵀ x[:, U]).gather(1, local)            T·out·|U| products in place of T·out·in

so the layer keeps x[:, U] for the backward pass and the rest of its input is freed. Selections by
Fisher information concentrate: all neurons of a layer want the same few inputs. Where a selection
is scattered, a sampled product computes its T·out·C_l products alone. Forward is the plain layer
with the tuned values in place, so inference costs nothing extra; the gradient of the input is the
dense one.

Where a model uses a layer's weight outside the layer's `forward` (timm's EVA,
`nn.MultiheadAttention`), the weight that it reads leads the gradient to the values all the same, by
way of a dense one.
"""

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trpts.signals import heads, pixels_of_patches

# PyTorch calls CSR tensors beta, once per process: here, not in a user's first step
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.zeros(1, 1).to_sparse_csr()

# Up to this share of the fan-in a layer keeps x[:, U], above it x itself. A copy frees x only if
# nothing else keeps x: three layers that read one x (query, key, value) would each keep nearly all
# of it.
KEEP_COLUMNS_UP_TO = 0.5
# The CPU takes the dense product up to |U| = 64 + 5 C columns and the sampled one above. Dense
# costs T·out·|U| fast products; sampled costs T·out·C slow ones and a transposition of g. `trpts
# bench gradient` measures the crossing.
DENSE_COLUMNS, DENSE_COLUMNS_PER_CONNECTION = 64, 5
# From this width on, a plain transpose misses the cache at every entry; transposing ROWS rows at a
# time avoids that.
WIDE, ROWS = 512, 64


@torch.library.custom_op("trpts::selected_gradient", mutates_args=())
def selected_gradient(g: torch.Tensor, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Σ_n g[n, o] · x[n, index[o, k]]: [out, C] of g [T, out], x [T, columns], index [out, C].

    Computed and returned in float32 (float64 stays), inside an autocast context too. One opaque
    operator, so that torch.compile does not trace into it.
    """
    kind = torch.promote_types(g.dtype, torch.float32)
    dense = (
        g.device.type != "cpu"
        or x.shape[1] <= DENSE_COLUMNS + DENSE_COLUMNS_PER_CONNECTION * index.shape[1]
    )
    with torch.autocast(g.device.type, enabled=False):
        g, x = g.to(kind), x.to(kind)
        return (g.T @ x).gather(1, index) if dense else sampled_gradient(g, x, index)


def sampled_gradient(g: torch.Tensor, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The same entries from T·out·C products; sampled_addmm takes float32 and float64 alone."""
    out, C = index.shape
    starts = torch.arange(0, out * C + 1, C, device=g.device)
    pattern = torch.sparse_csr_tensor(
        starts, index.flatten(), g.new_zeros(out * C), (out, x.shape[1]), check_invariants=False
    )
    return (
        torch.sparse.sampled_addmm(pattern, _transposed(g), _transposed(x).T, beta=0.0)
        .values()
        .view(out, C)
    )


def _transposed(x):
    """x.T, for wide x laid out as the product wants it: only faster (`trpts bench gradient`)."""
    if x.shape[1] < WIDE:
        return x.T
    transposed = x.new_empty(x.shape[1], x.shape[0])
    for columns, rows in zip(transposed.split(ROWS, 1), x.split(ROWS), strict=True):
        columns.copy_(rows.T)
    return transposed


@selected_gradient.register_fake
def _(g, x, index):
    return g.new_empty(index.shape, dtype=torch.promote_types(g.dtype, torch.float32))


@torch.library.custom_op("trpts::write_values", mutates_args=("weight",))
def write_values(weight: torch.Tensor, index: torch.Tensor, values: torch.Tensor) -> None:
    """weight[o, index[o, k]] = values[o, k], in place."""
    weight.view(len(index), -1).scatter_(1, index, values.to(weight.dtype))


class _GradientOfValues(torch.autograd.Function):
    """The layer's output z [..., out]; backward, the values' gradient from g and kept columns."""

    @staticmethod
    def forward(ctx, z, kept, values, local):
        ctx.save_for_backward(kept, local)
        return z.detach()  # not a view to autograd: a later operation may change it in place

    @staticmethod
    def backward(ctx, g):
        kept, local = ctx.saved_tensors
        rows = g.reshape(-1, g.shape[-1])  # [T, out]
        return g, None, selected_gradient(rows, kept.reshape(-1, kept.shape[-1]), local), None


class _GradientOfEntries(torch.autograd.Function):
    """The weight as it is; backward, the values' gradient is taken from the weight's dense one."""

    @staticmethod
    def forward(ctx, weight, values, index):
        ctx.save_for_backward(index)
        ctx.kind = values.dtype
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        return None, g.reshape(len(index), -1).gather(1, index).to(ctx.kind), None


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
            return _GradientOfEntries.apply(self._parameters["weight"], self.values, self.index)
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
            return _GradientOfValues.apply(z, kept.to(z.dtype), self.values, self.local)
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


def columns_and_local(index: torch.Tensor, fan_in: int) -> tuple[torch.Tensor | None, torch.Tensor]:
    """(U, local): U[local] = index [out, C]; (None, index) where U is large: all input is kept."""
    columns, local = index.unique(return_inverse=True)
    return (columns, local) if len(columns) <= KEEP_COLUMNS_UP_TO * fan_in else (None, index)


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
