"""Ways to the gradient of the selected values, one layer of ViT-B/16 at a time: why
`trpts.sparse_gradient` takes which when.

All give Σ_n g[n, o] · x[n, index[o, k]] to rounding; a test holds them to it. First over a whole
input, where a scattered selection takes sampled_addmm; then over the few columns that a
concentrated selection uses, |U| of them, where the dense product is faster up to the crossing that
`trpts.sparse_gradient` names.
"""

from functools import partial

import torch

from trpts.sparse_gradient import sampled_gradient
from trpts_lab.bench.clock import Bench, interleaved, timed

LAYERS = {
    "qkv": (2304, 768),
    "attention output": (768, 768),
    "MLP in": (3072, 768),
    "MLP out": (768, 3072),
}
TOKENS = 197
COLUMNS = (16, 64, 96, 192)  # sizes of U on both sides of the crossing


def dense_then_gather(g, x, index):
    """The whole weight gradient, then the selected entries: what a mask does."""
    return (g.T @ x).gather(1, index)


def gather_columns(g, x, index):
    """For each k, the selected input of every neuron: [T, out] at a time."""
    return torch.stack([(g * x[:, index[:, k]]).sum(0) for k in range(index.shape[1])], dim=1)


def gather_rows(g, x, index):
    """Rows of the transposed input, [out, C, T], times rows of the transposed gradient."""
    return torch.einsum("ot,oct->oc", g.T.contiguous(), x.T.contiguous()[index])


def turned_at_once(g, x, index):
    """The sampled product, which transposes both sides itself, each at once."""
    out, C = index.shape
    starts = torch.arange(0, out * C + 1, C, device=g.device)
    pattern = torch.sparse_csr_tensor(
        starts, index.flatten(), g.new_zeros(out * C), (out, x.shape[1]), check_invariants=False
    )
    return torch.sparse.sampled_addmm(pattern, g.T, x, beta=0.0).values().view(out, C)


WAYS = {
    "sampled_addmm": sampled_gradient,
    "sampled_addmm, turned at once": turned_at_once,
    "dense, then gather": dense_then_gather,
    "gather columns": gather_columns,
    "gather rows": gather_rows,
}


def bench_gradient(batch_size=16, rounds=5, device="cpu", C=2):
    """{"layer: way": {"s": [per round]}}."""
    generator, works = torch.Generator().manual_seed(0), {}
    for layer, (out, fan_in) in LAYERS.items():
        g = torch.randn(batch_size * TOKENS, out, generator=generator).to(device)
        x = torch.randn(batch_size * TOKENS, fan_in, generator=generator).to(device)
        index = (
            torch.rand(out, fan_in, generator=generator)
            .topk(C, 1)
            .indices.sort(1)
            .values.to(device)
        )
        for way, function in WAYS.items():
            works[f"{layer}: {way}"] = timed(partial(function, g, x, index), device)
        for n in COLUMNS:
            kept = x[:, :n].contiguous()
            local = (
                torch.rand(out, n, generator=generator).topk(C, 1).indices.sort(1).values.to(device)
            )
            for way in ("dense, then gather", "sampled_addmm"):
                works[f"{layer}, {n} columns: {way}"] = timed(
                    partial(WAYS[way], g, kept, local), device
                )
    return interleaved(works, rounds)


BENCH = Bench(
    bench_gradient,
    [
        (f"{layer}: sampled_addmm", f"{layer}: {way}", 1.0)
        for layer in LAYERS
        for way in WAYS
        if way != "sampled_addmm"
    ],
)
