"""What a GPU makes of the methods: training, prediction, both ways to the gradient, and a prefill.

ViT-B/16 and L/16, batches of 64, in single precision and inside bfloat16's autocast; then the
language model of LLaVA-1.5-7B's shapes, random weights in bfloat16, with 576 image tokens and 60 of
text, unpruned and at High. Weights are drawn: time does not care. It is meant to end within eight
minutes, and was not run on a GPU yet. On a CPU the smallest case runs: it shows that everything
works, and nothing else.
"""

import gc
from contextlib import nullcontext
from statistics import median

import torch

from trpts.meter import peak_memory_bytes
from trpts.tokens import token_selection
from trpts_lab.bench.clock import Bench, interleaved, timed
from trpts_lab.bench.gradient import bench_gradient
from trpts_lab.bench.train import Trainee
from trpts_lab.bench.transprune import bench_transprune

TRAINING = ("full", "lora", "lora-fa", "scattered", "sparse", "sparse and tokens", "limit")
LLAVA = {
    "width": 4096,
    "mlp": 11008,
    "layers": 32,
    "heads": 32,
    "words": 32000,
    "side": 24,
    "before": 35,
    "after": 25,
}
TOY = {
    "width": 32,
    "mlp": 48,
    "layers": 8,
    "heads": 2,
    "words": 40,
    "side": 4,
    "before": 3,
    "after": 5,
}
LAYERS_BATCH = 16  # images of the gradient's bench
# device -> (backbones, images in a batch at most, shapes of the language model, its type)
CASES = {
    "cuda": (
        {"ViT-B": "vit_base_patch16_224", "ViT-L": "vit_large_patch16_224"},
        None,
        LLAVA,
        torch.bfloat16,
    ),
    "cpu": ({"ViT-Ti": "vit_tiny_patch16_224"}, 2, TOY, torch.float32),
}


def bench_gpu(batch_size=64, rounds=5, device="cuda"):
    """{"<model>, <precision>: <work>": {"s": [per round], "batch_size", "peak_bytes" (of training
    on CUDA)}}

    "gradient, …" and "prefill, …" are the rows of those benches; a prefill's have "macs" as well.
    """
    backbones, at_most, size, kind = CASES[device]
    batch_size, rows = min(batch_size, at_most or batch_size), {}
    for name, backbone in backbones.items():
        for precision in ("fp32", "bf16"):
            rows |= _of_model(
                f"{name}, {precision}", backbone, precision == "bf16", batch_size, rounds, device
            )
    rows |= {
        f"gradient, {work}": row
        for work, row in bench_gradient(LAYERS_BATCH, rounds, device).items()
    }
    prefills = bench_transprune(1, rounds, device, size=size, kind=kind)
    return rows | {f"prefill, {work}": row for work, row in prefills.items()}


def _of_model(words, backbone, autocast, batch_size, rounds, device):
    """On CUDA: a step of each method, prediction with all and with fewer tokens, their peaks."""
    trainees = {name: Trainee(name, batch_size, device, backbone, autocast) for name in TRAINING}
    works = {name: trainee.step for name, trainee in trainees.items()}
    for name, of in (("prediction", "full"), ("prediction and tokens", "sparse and tokens")):
        works[name] = _predicting(trainees[of])
    rows = interleaved(
        {f"{words}: {name}": timed(work, device) for name, work in works.items()}, rounds
    )
    del works, trainees
    for name in TRAINING if device == "cuda" else ():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        trainee = Trainee(name, batch_size, device, backbone, autocast)
        for _ in range(2):
            trainee.step()
        rows[f"{words}: {name}"]["peak_bytes"] = peak_memory_bytes(device)
        del trainee
    return {name: row | {"batch_size": batch_size} for name, row in rows.items()}


def _predicting(trainee):
    def predict():
        around = (
            token_selection(trainee.model, **trainee.tokens) if trainee.tokens else nullcontext()
        )
        with torch.inference_mode(), trainee.autocast(), around:
            trainee.model(trainee.images)

    return predict


def gpu_lines(rows, bars):
    """Lines: images a second of each model's works."""
    for name, row in rows.items():
        if "batch_size" in row:
            yield f"{name}: {row['batch_size'] / median(row['s']):,.0f} images a second"


BENCH = Bench(bench_gpu, batch_size=64, words=gpu_lines)
