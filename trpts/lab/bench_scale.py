"""How a training step grows with the image, the depth and the width: full tuning against two connections per neuron.

A timm ViT of patch 16 in which one of three numbers changes at a time.
"""

import timm
import torch
from torch.nn.functional import cross_entropy

from trpts.lab.bench_train import N_CLASSES, SHARE, drawn_index
from trpts.lab.clock import interleaved, timed
from trpts.lab.measure import vit_flops
from trpts.sparse import attach

MIDDLE = {"side": 160, "depth": 6, "width": 384}
SIZES = {"side": (96, 160, 224), "depth": (3, 6, 12), "width": (192, 384, 768)}


def settings():
    """{name: {"side", "depth", "width"}} of what is measured; the middle once."""
    found = {}
    for what, values in SIZES.items():
        for value in values:
            found[", ".join(f"{k} {v}" for k, v in (MIDDLE | {what: value}).items())] = MIDDLE | {what: value}
    return found


def bench_scale(batch_size=8, rounds=5, device="cpu"):
    """{"<sizes>: full" or "<sizes>: sparse": {"s": [per round], "flops" of an image's forward pass, "side", …}}"""
    works, facts = {}, {}
    for name, size in settings().items():
        for method in ("full", "sparse"):
            model = timm.models.VisionTransformer(img_size=size["side"], depth=size["depth"], embed_dim=size["width"],
                                                  num_heads=size["width"] // 64, num_classes=N_CLASSES)  # fmt: skip
            model = model.to(device).train()
            facts[f"{name}: {method}"] = {"flops": vit_flops(model), **size}
            if method == "sparse":
                attach(model, drawn_index(model, SHARE))
            works[f"{name}: {method}"] = timed(_step(model, batch_size, size["side"], device), device)
    rows = interleaved(works, rounds)
    return {name: row | facts[name] for name, row in rows.items()}


def _step(model, batch_size, side, device):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch_size, 3, side, side, generator=generator).to(device)
    labels = torch.randint(0, N_CLASSES, (batch_size,), generator=generator).to(device)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)

    def step():
        cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
