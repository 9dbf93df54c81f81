"""How a training step grows with the model: ViT-S, B and L of patch 16, by each way to train few
parameters.

Seconds of the methods in turn, one size after another; peak memory of each in a process of its own.
"""

from trpts_lab.bench import train as bench_train
from trpts_lab.bench.clock import Bench, interleaved, peak_in_a_process, timed
from trpts_lab.bench.train import Trainee

SIZES = {
    "ViT-S": "vit_small_patch16_224",
    "ViT-B": "vit_base_patch16_224",
    "ViT-L": "vit_large_patch16_224",
}
STEPPING = ("full", "lora", "lora-fa", "sparse", "sparse and tokens", "limit")


def bench_scale(batch_size=4, rounds=5, device="cpu"):
    """{"<size>: <method>": {"s": [per round], "peak_bytes", "n_trainable"}} of a training step."""
    rows = {}
    for size, backbone in SIZES.items():
        trainees = {
            f"{size}: {method}": Trainee(method, batch_size, device, backbone)
            for method in STEPPING
        }
        rows |= interleaved(
            {name: timed(trainee.step, device) for name, trainee in trainees.items()}, rounds
        )
        for name, trainee in trainees.items():
            rows[name]["n_trainable"] = trainee.n_trainable
        del trainees
        for method in STEPPING:
            peak = peak_in_a_process(bench_train.__name__, method, batch_size, device, backbone)
            rows[f"{size}: {method}"]["peak_bytes"] = peak
    return rows


BENCH = Bench(
    bench_scale,
    [
        (f"{size}: {method}", f"{size}: full", None)
        for size in SIZES
        for method in STEPPING
        if method != "full"
    ],
    batch_size=4,
)
