"""`trpts bench`: what training, scoring and selecting cost at full size, as ratios measured in one run.

ViT-B/16 at 224 pixels with random weights (time does not care), the methods interleaved round by round so that a slow
moment of the machine hits all of them, medians over the rounds. Peak memory is taken in a process of its own for each
method. A machine that computes something else at the same time measures nothing.
"""

import statistics
import subprocess
import sys
import time

import torch
from torch.nn.functional import cross_entropy

from trpts.backbones import create_backbone
from trpts.fisher import fisher_scores, scored_layers
from trpts.lab.bench_gradient import LAYERS, WAYS, bench_gradient
from trpts.lab.bench_transprune import HIGH_ROW, SCORING, bench_transprune, beside_macs
from trpts.lab.measure import vit_flops
from trpts.meter import peak_memory_bytes
from trpts.sparse import attach
from trpts.tokens import cls_attention, token_selection

BACKBONE, N_CLASSES = "vit_base_patch16_224", 20
C, RANK = 2, 8  # connections per neuron; LoRA's rank
BLOCKS, KEEP = (3, 6, 9), 0.7
WARM_UP = 1


def random_index(model, seed=0):
    """C connections of every neuron, drawn: the cost does not depend on which."""
    generator = torch.Generator().manual_seed(seed)
    noise = {name: torch.rand(m.weight.shape, generator=generator) for name, m in scored_layers(model).items()}
    return {name: r.topk(C, 1).indices.sort(1).values for name, r in noise.items()}


class Trainee:
    """One method's model, optimiser and step."""

    def __init__(self, method, batch_size, device):
        self.model = create_backbone(BACKBONE, N_CLASSES).to(device).train()
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randn(batch_size, 3, 224, 224, generator=generator).to(device)
        self.labels = torch.randint(0, N_CLASSES, (batch_size,), generator=generator).to(device)
        self.masks, self.tokens = {}, None
        getattr(self, f"_{method.replace(' ', '_')}")()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.n_trainable = sum(p.numel() for p in trained)
        self.optimizer = torch.optim.Adam(trained, lr=1e-4, fused=True)

    def _full(self):
        pass

    def _mask(self):
        """The update as it is written: the whole gradient, then the mask; Adam over everything."""
        for name, places in random_index(self.model).items():
            weight = self.model.get_submodule(name).weight
            self.masks[weight] = torch.zeros(weight.shape).scatter_(1, places, 1.0).to(weight.device)

    def _sparse(self):
        attach(self.model, random_index(self.model))

    def _sparse_and_tokens(self):
        self._sparse()
        self.tokens = {"blocks": BLOCKS, "keep": KEEP}

    def _lora(self):
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(scored_layers(self.model)),
                            modules_to_save=["head"])  # fmt: skip
        self.model = get_peft_model(self.model, config)

    def _limit(self):
        """No weight gradient at all: forward and the gradient of every layer's input."""
        self.model.requires_grad_(False)
        self.model.head.requires_grad_(True)
        self.model.patch_embed.proj.bias.requires_grad_(True)  # sends the gradient back to the first layer

    def step(self):
        """Seconds of one training step."""
        synchronize(self.images.device)
        start = time.perf_counter()
        if self.tokens:
            with token_selection(self.model, **self.tokens):
                cross_entropy(self.model(self.images), self.labels).backward()
        else:
            cross_entropy(self.model(self.images), self.labels).backward()
        for weight, mask in self.masks.items():
            weight.grad.mul_(mask)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        synchronize(self.images.device)
        return time.perf_counter() - start


def synchronize(device):
    """Wait until the device has done what it was told."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


TRAINED = ("full", "mask", "lora", "sparse", "sparse and tokens", "limit")


def bench_train(batch_size=16, rounds=5, device="cpu"):
    """{method: {"s": [per round], "peak_bytes", "n_trainable"}} of a training step."""
    trainees = {name: Trainee(name, batch_size, device) for name in TRAINED}
    rows = interleaved({name: trainee.step for name, trainee in trainees.items()}, rounds)
    sizes = {name: trainee.n_trainable for name, trainee in trainees.items()}
    del trainees
    for name in TRAINED:
        code = f"from trpts.lab.bench import peak_of; print(peak_of({name!r}, {batch_size}, {device!r}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        rows[name] |= {"peak_bytes": int(done.stdout.split()[-1]), "n_trainable": sizes[name]}
    return rows


def peak_of(method, batch_size, device):
    """Peak memory of three steps, in a fresh process."""
    trainee = Trainee(method, batch_size, device)
    for _ in range(3):
        trainee.step()
    return peak_memory_bytes(device)


def bench_fisher(n=32, batch_size=16, rounds=5, device="cpu"):
    """Exact per-sample Fisher over n images, against a plain forward and backward pass, and a loop of single images."""
    model = create_backbone(BACKBONE, N_CLASSES).to(device).eval()
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, 224, 224, generator=generator).to(device)
    labels = torch.randint(0, N_CLASSES, (n,), generator=generator).to(device)

    def timed(work):
        def run():
            synchronize(device)
            start = time.perf_counter()
            work()
            synchronize(device)
            return time.perf_counter() - start

        return run

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
    return interleaved({name: timed(work) for name, work in works.items()}, rounds)


@torch.no_grad()
def bench_tokens(batch_size=16, rounds=5, device="cpu"):
    """Inference with and without token selection, and the part of a block that scoring takes."""
    model = create_backbone(BACKBONE, N_CLASSES).to(device).eval()
    images = torch.randn(batch_size, 3, 224, 224, generator=torch.Generator().manual_seed(1)).to(device)
    tokens = model._pos_embed(model.patch_embed(images))
    attention = model.blocks[0].attn
    qkv = attention.qkv(tokens)

    def timed(work):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        return time.perf_counter() - start

    def selecting():
        with token_selection(model, BLOCKS, KEEP):
            model(images)

    rows = interleaved({
        "all tokens": lambda: timed(lambda: model(images)),
        "token selection": lambda: timed(selecting),
        "one block": lambda: timed(lambda: model.blocks[0](tokens)),
        "its scoring": lambda: timed(lambda: cls_attention(qkv, attention)),
    }, rounds)  # fmt: skip
    rows["all tokens"]["flops"], rows["token selection"]["flops"] = vit_flops(model), vit_flops(model, BLOCKS, KEEP)
    return rows


def interleaved(works, rounds):
    """{name: {"s": [seconds of each round]}}: all works once, round after round; the first WARM_UP are not counted."""
    rows = {name: {"s": []} for name in works}
    for nth in range(WARM_UP + rounds):
        for name, work in works.items():
            seconds = work()
            if nth >= WARM_UP:
                rows[name]["s"].append(seconds)
            print(f"round {nth + 1}/{WARM_UP + rounds}: {name} {seconds:.3f} s", file=sys.stderr, flush=True)
    return rows


def ratio(rows, name, other):
    """(median over rounds of the ratio of two works of one round, lowest, highest)."""
    found = [a / b for a, b in zip(rows[name]["s"], rows[other]["s"], strict=True)]
    return statistics.median(found), min(found), max(found)


# What each bench is held against: (name, other, at most); None: shown without a bar.
BARS = {
    "train": [("sparse", "full", 0.80), ("sparse", "lora", 0.92), ("sparse", "mask", 0.80),
              ("sparse and tokens", "full", 0.52), ("sparse and tokens", "lora", 0.60), ("limit", "full", None)],
    "fisher": [("per-sample, one pass", "plain forward and backward", 1.15),
               ("per-sample, one pass", "loop of single images", 1.0)],
    "tokens": [("token selection", "all tokens", None), ("its scoring", "one block", 0.02)],
    "gradient": [(f"{layer}: sampled_addmm", f"{layer}: {way}", 1.0)
                 for layer in LAYERS for way in WAYS if way != "sampled_addmm"],
    "transprune": [(SCORING, HIGH_ROW, 0.05)],
}  # fmt: skip
MEMORY_BARS = [("sparse", "full", 0.92), ("sparse", "lora", 0.85), ("sparse and tokens", "lora", 0.65)]
BENCHES = {"train": bench_train, "fisher": bench_fisher, "tokens": bench_tokens, "gradient": bench_gradient,
           "transprune": bench_transprune}  # fmt: skip
BATCH_SIZES = {"transprune": 1}  # where 16, as elsewhere, is not what is asked: one prompt


def lines(name, rows):
    """The outcome of a bench in words: times, ratios with their spread, and whether each bar is met."""
    for work, row in rows.items():
        memory = f", peak {row['peak_bytes'] / 2**20:,.0f} MiB" if "peak_bytes" in row else ""
        size = f", trains {row['n_trainable']:,}" if "n_trainable" in row else ""
        yield f"{work}: {statistics.median(row['s']):.3f} s ({min(row['s']):.3f} to {max(row['s']):.3f}){memory}{size}"
    for a, b, bar in BARS[name]:
        middle, low, high = ratio(rows, a, b)
        yield f"{a} / {b}: {middle:.3f} ({low:.3f} to {high:.3f}){verdict(middle, bar)}"
    if name == "train":
        for a, b, bar in MEMORY_BARS:
            share = rows[a]["peak_bytes"] / rows[b]["peak_bytes"]
            yield f"peak memory, {a} / {b}: {share:.3f}{verdict(share, bar)}"
    if name == "tokens":
        saved = rows["all tokens"]["flops"] / rows["token selection"]["flops"]
        speed = 1 / ratio(rows, "token selection", "all tokens")[0]
        met = "met" if speed >= 0.9 * saved else "missed"
        yield f"speed-up {speed:.3f}, operations {saved:.3f} times fewer; bar 0.9 of that: {met}"
    if name == "transprune":
        yield from beside_macs(rows)


def verdict(value, bar):
    return "" if bar is None else f", bar {bar}: {'met' if value <= bar else 'missed'}"
