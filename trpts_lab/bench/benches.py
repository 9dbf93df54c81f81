"""`trpts bench`: what training, scoring and selecting cost at full size, as ratios measured in one
run.

The works are interleaved round by round, medians over the rounds. A machine that computes something
else at the same time measures nothing.
"""

import statistics

from trpts_lab.bench.busy import bench_busy, busy_bars
from trpts_lab.bench.clock import ratio, verdict
from trpts_lab.bench.fisher import bench_fisher
from trpts_lab.bench.gpu import bench_gpu, gpu_lines
from trpts_lab.bench.gradient import LAYERS, WAYS, bench_gradient
from trpts_lab.bench.methods import STEPPING, bench_methods
from trpts_lab.bench.parts import bench_parts, of_ceiling, shares
from trpts_lab.bench.predict import PREDICTING, bench_predict
from trpts_lab.bench.scale import SIZES, bench_scale
from trpts_lab.bench.scale import STEPPING as BY_SIZE
from trpts_lab.bench.sweep import ONE, PROCESSES, THREADS, bench_sweep, overhead
from trpts_lab.bench.tokens import bench_tokens
from trpts_lab.bench.train import bench_train
from trpts_lab.bench.transprune import HIGH_ROW, SCORING, bench_transprune, beside_macs

# What each bench is held against: (name, other, at most); None: shown without a bar.
BARS = {
    "train": [
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
    "fisher": [
        ("per-sample, one pass", "plain forward and backward", 1.15),
        ("per-sample, one pass", "loop of single images", 1.0),
    ],
    "tokens": [("token selection", "all tokens", None), ("its scoring", "one block", 0.02)],
    "gradient": [
        (f"{layer}: sampled_addmm", f"{layer}: {way}", 1.0)
        for layer in LAYERS
        for way in WAYS
        if way != "sampled_addmm"
    ],
    "methods": [(method, "full", None) for method in STEPPING if method != "full"],
    "parts": [("limit", "full", None)],
    "scale": [
        (f"{size}: {method}", f"{size}: full", None)
        for size in SIZES
        for method in BY_SIZE
        if method != "full"
    ],
    "predict": [(method, "untouched", None) for method in PREDICTING],
    "sweep": [(PROCESSES, ONE, None), (PROCESSES, THREADS, 1.0)],
    "busy": list(busy_bars()),
    "transprune": [(SCORING, HIGH_ROW, 0.05)],
    "gpu": [],
    "chapters": [],
}
CHAPTERS_S, CHAPTER_S = 480, 120  # the book's quick run, and its longest chapter
MEMORY_BARS = [
    ("sparse", "limit", 1.07),
    ("sparse", "lora", 0.70),
    ("sparse and tokens", "lora", 0.52),
]
BENCHES = {
    "train": bench_train,
    "methods": bench_methods,
    "fisher": bench_fisher,
    "tokens": bench_tokens,
    "gradient": bench_gradient,
    "parts": bench_parts,
    "scale": bench_scale,
    "predict": bench_predict,
    "sweep": bench_sweep,
    "busy": bench_busy,
    "transprune": bench_transprune,
    "gpu": bench_gpu,
}
# Where 16, as elsewhere, is not what is asked: one prompt, many models at once, small ones, a run's
# own batches.
BATCH_SIZES = {"transprune": 1, "methods": 8, "scale": 4, "sweep": 8, "busy": 32, "gpu": 64}


def lines(name, rows, bars=True):
    """The outcome of a bench in words: times, ratios with their spread, and whether each bar is
    met.

    bars  False where the setting is not the one that the bars are set for: two CPU cores, the
          default batch size
    """
    for work, row in rows.items():
        memory = f", peak {row['peak_bytes'] / 2**20:,.0f} MiB" if "peak_bytes" in row else ""
        size = f", trains {row['n_trainable']:,}" if "n_trainable" in row else ""
        yield (
            f"{work}: {statistics.median(row['s']):.3f} s ({min(row['s']):.3f} to "
            f"{max(row['s']):.3f}){memory}{size}"
        )
    for a, b, bar in BARS[name]:
        middle, low, high = ratio(rows, a, b)
        yield (
            f"{a} / {b}: {middle:.3f} ({low:.3f} to "
            f"{high:.3f}){verdict(middle, bar if bars else None)}"
        )
    if name == "train":
        for a, b, bar in MEMORY_BARS:
            share = rows[a]["peak_bytes"] / rows[b]["peak_bytes"]
            yield f"peak memory, {a} / {b}: {share:.3f}{verdict(share, bar if bars else None)}"
    if name == "tokens":
        saved = rows["all tokens"]["flops"] / rows["token selection"]["flops"]
        speed = 1 / ratio(rows, "token selection", "all tokens")[0]
        met = f"; bar 0.9 of that: {'met' if speed >= 0.9 * saved else 'missed'}" if bars else ""
        yield f"speed-up {speed:.3f}, operations {saved:.3f} times fewer{met}"
    if name == "parts":
        for method, parts in shares(rows).items():
            yield f"{method}, of full tuning's step: " + ", ".join(
                f"{part} {share:.2f}" for part, share in parts.items()
            )
        step, product, copy = of_ceiling(rows)
        yield (
            f"full tuning's step: {step / 1e9:.0f} GFLOP/s, {step / product:.2f} of one large "
            f"matrix product's {product / 1e9:.0f}; a copy moves {copy / 1e9:.1f} GB/s"
        )
    if name == "predict":
        untouched = rows["untouched"]["flops"]
        yield "operations / untouched: " + ", ".join(
            f"{m} {rows[m]['flops'] / untouched:.3f}" for m in PREDICTING
        )
    if name == "sweep":
        share = overhead(rows[PROCESSES])
        yield (
            f"the sweep's own part of its runs: {share:.3f}{verdict(share, 0.03 if bars else None)}"
        )
    if name == "gpu":
        yield from gpu_lines(rows)
    if name == "chapters":
        seconds = [statistics.median(row["s"]) for row in rows.values()]
        yield f"all: {sum(seconds):.0f} s{verdict(sum(seconds), CHAPTERS_S if bars else None)}"
        yield (
            f"the longest: {max(seconds):.0f} s{verdict(max(seconds), CHAPTER_S if bars else None)}"
        )
    if name == "transprune":
        yield from beside_macs(rows, bars)
