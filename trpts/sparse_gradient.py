"""The gradient of the selected entries of a weight, and the autograd functions that hand it on.

Every row of the mask M has exactly C_l ones, so that the selected entries fit a rectangle V, and

    ∂L/∂V[o, k] = Σ_n g[n, o] · x[n, index[o, k]]    x [T, in], g = ∂L/∂z [T, out], index [out, C_l]

is the whole gradient. It reads only the input columns that some neuron selects. Call them U,
sorted, and let local[o, k] be the position of index[o, k] in U. Then

    ∂L/∂V = (gᵀ x[:, U]).gather(1, local)            T·out·|U| products in place of T·out·in

Selections by Fisher information concentrate: all neurons of a layer want the same few inputs. Where
a selection is scattered, a sampled product computes its T·out·C_l products alone.
"""

import warnings
from typing import Any

import torch

# PyTorch calls CSR tensors beta, once per process: here, not in a user's first step
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.zeros(1, 1).to_sparse_csr()

Gradients = tuple[torch.Tensor | None, ...]  # of what `forward` was given, in its order

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

    raises  ValueError: shapes that do not fit, an index of a column that is not there. On a GPU the
            index is not looked at, which would wait for it; PyTorch itself stops there
    """
    if g.device.type == "cpu":
        _check(g, x, index)
    kind = torch.promote_types(g.dtype, torch.float32)
    dense = (
        g.device.type != "cpu"
        or x.shape[1] <= DENSE_COLUMNS + DENSE_COLUMNS_PER_CONNECTION * index.shape[1]
    )
    with torch.autocast(g.device.type, enabled=False):
        g, x = g.to(kind), x.to(kind)
        return (g.T @ x).gather(1, index) if dense else sampled_gradient(g, x, index)


def _check(g, x, index):
    """Raise ValueError for what the sampled product, unasked, would take from other memory."""
    if len(g) != len(x) or index.ndim != 2 or len(index) != g.shape[1]:
        raise ValueError(
            f"g {list(g.shape)}, x {list(x.shape)} and index {list(index.shape)}: expected "
            "[T, out], [T, columns] and [out, C]"
        )
    low, high = (int(n) for n in index.aminmax()) if index.numel() else (0, 0)
    if low < 0 or high >= x.shape[1]:
        raise ValueError(
            f"the index runs from {low} to {high}: expected columns from 0 to {x.shape[1] - 1}"
        )


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


class GradientOfValues(torch.autograd.Function):
    """The layer's output z [..., out]; backward, the values' gradient from g and kept columns."""

    @staticmethod
    def forward(
        ctx: Any, z: torch.Tensor, kept: torch.Tensor, values: torch.Tensor, local: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(kept, local)
        return z.detach()  # not a view to autograd: a later operation may change it in place

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Gradients:
        kept, local = ctx.saved_tensors
        rows = g.reshape(-1, g.shape[-1])  # [T, out]
        return g, None, selected_gradient(rows, kept.reshape(-1, kept.shape[-1]), local), None


class GradientOfEntries(torch.autograd.Function):
    """The weight as it is; backward, the values' gradient is taken from the weight's dense one."""

    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, values: torch.Tensor, index: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(index)
        ctx.kind = values.dtype
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Gradients:
        (index,) = ctx.saved_tensors
        return None, g.reshape(len(index), -1).gather(1, index).to(ctx.kind), None


def columns_and_local(index: torch.Tensor, fan_in: int) -> tuple[torch.Tensor | None, torch.Tensor]:
    """(U, local): U[local] = index [out, C]; (None, index) where U is large: all input is kept."""
    columns, local = index.unique(return_inverse=True)
    return (columns, local) if len(columns) <= KEEP_COLUMNS_UP_TO * fan_in else (None, index)
