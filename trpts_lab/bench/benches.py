"""`trpts bench`: what training, scoring and selecting cost at full size, as ratios measured in one
run.

The works are interleaved round by round, medians over the rounds. A machine that computes something
else at the same time measures nothing.
"""

import importlib
import statistics

from trpts_lab.bench.clock import Bench, ratio, verdict


def bench_named(name: str) -> Bench:
    """The bench of one of `trpts_lab.bench.NAMES`."""
    return importlib.import_module(f"trpts_lab.bench.{name}").BENCH


def lines(name, rows, bars=True):
    """The outcome of a bench in words: times, ratios with their spread, and whether each bar is
    met.

    bars  False where the setting is not the one that the bars are set for: two CPU cores, the
          default batch size
    """
    for work, row in rows.items():
        memory = f", peak {row['peak_bytes'] / 2**20:,.0f} MiB" if "peak_bytes" in row else ""
        size = f", trains {row['n_trainable']:,}" if "n_trainable" in row else ""
        times = f"{statistics.median(row['s']):.3f} s ({min(row['s']):.3f} to {max(row['s']):.3f})"
        yield f"{work}: {times}{memory}{size}"
    bench = bench_named(name)
    for a, b, bar in bench.bars:
        middle, low, high = ratio(rows, a, b)
        met = verdict(middle, bar if bars else None)
        yield f"{a} / {b}: {middle:.3f} ({low:.3f} to {high:.3f}){met}"
    yield from bench.words(rows, bars)
