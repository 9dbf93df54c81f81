"""Exact per-sample Fisher of ViT-B/16 against a plain pass and against a loop of single images."""

import torch
from torch.nn.functional import cross_entropy

from trpts.backbones import create_backbone
from trpts.fisher import fisher_scores
from trpts.layers import scored_layers
from trpts_lab.bench.clock import Bench, interleaved, timed
from trpts_lab.bench.train import BACKBONE, N_CLASSES


def bench_fisher(n=32, batch_size=16, rounds=5, device="cpu"):
    """Exact per-sample Fisher over n images, a plain forward and backward pass, and a loop."""
    model = create_backbone(BACKBONE, N_CLASSES).to(device).eval()
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, 224, 224, generator=generator).to(device)
    labels = torch.randint(0, N_CLASSES, (n,), generator=generator).to(device)

    def plain(size):
        def work():
            for x, y in zip(images.split(size), labels.split(size), strict=True):
                cross_entropy(model(x), y).backward()
                model.zero_grad(set_to_none=True)

        return work

    def single():
        layers = scored_layers(model)
        totals = {name: torch.zeros_like(m.weight) for name, m in layers.items()}
        for x, y in zip(images.split(1), labels.split(1), strict=True):
            cross_entropy(model(x), y).backward()
            for name, m in layers.items():
                totals[name] += m.weight.grad.square()
            model.zero_grad(set_to_none=True)

    def ours():
        fisher_scores(model, zip(images.split(batch_size), labels.split(batch_size), strict=True))

    works = {
        "plain forward and backward": plain(batch_size),
        "per-sample, one pass": ours,
        "loop of single images": single,
    }
    return interleaved({name: timed(work, device) for name, work in works.items()}, rounds)


BENCH = Bench(
    bench_fisher,
    [
        ("per-sample, one pass", "plain forward and backward", 1.15),
        ("per-sample, one pass", "loop of single images", 1.0),
    ],
)
