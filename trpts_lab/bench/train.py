"""A training step of ViT-B/16 by each way to train few parameters: time and peak memory.

Random weights: time does not care. It does care which connections are selected. "sparse" has as few
different inputs as Fisher's score selects on real weights (SHARE); "scattered", the worst case,
draws each neuron's own. Peak memory is taken in a process of its own for each method.

LoRA-FA (Zhang et al., arXiv 2308.03303) freezes LoRA's A, and keeps A x in place of x; S²FT (Yang
et al., arXiv 2412.06289) trains whole rows and columns. Both save what LoRA keeps; PEFT has the
first.
"""

from contextlib import nullcontext
from functools import partial

import torch
from torch.nn.functional import cross_entropy

from trpts.backbones import create_backbone
from trpts.layers import scored_layers
from trpts.meter import peak_memory_bytes
from trpts.sparse import attach
from trpts.tokens import token_selection
from trpts_lab.bench.clock import Bench, interleaved, peak_in_a_process, timed, verdict

BACKBONE, N_CLASSES = "vit_base_patch16_224", 20
C, RANK = 2, 8  # connections per neuron; LoRA's rank
BLOCKS, KEEP = (3, 6, 9), 0.7  # token selection
# Of a layer's inputs, those that any neuron selects at C = 2. What Fisher's score selects on a real
# ViT-S/14 is in the records of `concentration` of the profile real; chapter 07 shows both.
SHARE = 0.02


def drawn_index(model, share=1.0, seed=0):
    """C connections per neuron, drawn from the first `share` of a layer's inputs, at least C."""
    generator, index = torch.Generator().manual_seed(seed), {}
    for name, layer in scored_layers(model).items():
        out, fan_in = layer.weight.shape
        noise = torch.rand(out, max(C, round(share * fan_in)), generator=generator)
        index[name] = noise.topk(C, 1).indices.sort(1).values
    return index


class Trainee:
    """One method's model, optimiser and step."""

    def __init__(self, method, batch_size, device, backbone=BACKBONE, autocast=False):
        self.model = create_backbone(backbone, N_CLASSES).to(device).train()
        self.autocast = partial(
            torch.autocast, torch.device(device).type, torch.bfloat16, enabled=autocast
        )
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randn(batch_size, 3, 224, 224, generator=generator).to(device)
        self.labels = torch.randint(0, N_CLASSES, (batch_size,), generator=generator).to(device)
        self.masks, self.tokens, self.optimizer = {}, None, None
        getattr(self, f"_{method.replace(' ', '_').replace('-', '_')}")()
        # LoRA-FA's optimiser has frozen A by now
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.n_trainable = sum(p.numel() for p in trained)
        self.optimizer = self.optimizer or torch.optim.Adam(trained, lr=1e-4, fused=True)

    def _full(self):
        pass

    def _mask(self):
        """The update as it is written: the whole gradient, then the mask; Adam over everything."""
        for name, places in drawn_index(self.model).items():
            weight = self.model.get_submodule(name).weight
            self.masks[weight] = (
                torch.zeros(weight.shape).scatter_(1, places, 1.0).to(weight.device)
            )

    def _sparse(self):
        attach(self.model, drawn_index(self.model, SHARE))

    def _scattered(self):
        attach(self.model, drawn_index(self.model))

    def _sparse_and_tokens(self):
        self._sparse()
        self.tokens = {"blocks": BLOCKS, "keep": KEEP}

    def _lora(self):
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=RANK,
            lora_alpha=RANK,
            target_modules=list(scored_layers(self.model)),
            modules_to_save=["head"],
        )
        self.model = get_peft_model(self.model, config)

    def _lora_fa(self):
        from peft.optimizers import create_lorafa_optimizer

        self._lora()
        self.optimizer = create_lorafa_optimizer(self.model, r=RANK, lora_alpha=RANK, lr=1e-4)

    def _limit(self):
        """No weight gradient at all: forward and the gradient of every layer's input."""
        self.model.requires_grad_(False)
        self.model.head.requires_grad_(True)
        # sends the gradient back to the first layer
        self.model.patch_embed.proj.bias.requires_grad_(True)

    def step(self):
        """One training step."""
        with token_selection(self.model, **self.tokens) if self.tokens else nullcontext():
            with self.autocast():
                loss = cross_entropy(self.model(self.images), self.labels)
            loss.backward()
        for weight, mask in self.masks.items():
            weight.grad.mul_(mask)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


TRAINED = ("full", "mask", "lora", "lora-fa", "scattered", "sparse", "sparse and tokens", "limit")


def bench_train(batch_size=16, rounds=5, device="cpu"):
    """{method: {"s": [per round], "peak_bytes", "n_trainable"}} of a training step."""
    trainees = {name: Trainee(name, batch_size, device) for name in TRAINED}
    rows = interleaved(
        {name: timed(trainee.step, device) for name, trainee in trainees.items()}, rounds
    )
    sizes = {name: trainee.n_trainable for name, trainee in trainees.items()}
    del trainees
    for name in TRAINED:
        rows[name] |= {
            "peak_bytes": peak_in_a_process(__name__, name, batch_size, device),
            "n_trainable": sizes[name],
        }
    return rows


def peak_of(method, batch_size, device, backbone=BACKBONE):
    """Peak memory of three steps, in a fresh process."""
    trainee = Trainee(method, batch_size, device, backbone)
    for _ in range(3):
        trainee.step()
    return peak_memory_bytes(device)


MEMORY_BARS = [
    ("sparse", "limit", 1.07),
    ("sparse", "lora", 0.70),
    ("sparse and tokens", "lora", 0.52),
]


def _memory(rows, bars):
    for a, b, bar in MEMORY_BARS:
        share = rows[a]["peak_bytes"] / rows[b]["peak_bytes"]
        yield f"peak memory, {a} / {b}: {share:.3f}{verdict(share, bar if bars else None)}"


BENCH = Bench(
    bench_train,
    [
        ("sparse", "limit", 1.05),
        ("sparse", "lora", 0.88),
        ("sparse", "lora-fa", None),
        ("sparse", "full", 0.80),
        ("sparse", "mask", 0.80),
        ("sparse and tokens", "full", 0.50),
        ("sparse and tokens", "lora", 0.60),
        ("scattered", "lora", None),
        ("limit", "full", None),
    ],
    words=_memory,
)
