"""Comparable times: workloads take turns in each round, so a slow moment hits all of them."""

import ctypes
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import torch

WARM_UP = 1
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


class Bench(NamedTuple):
    """All that is known of a bench.

    run         (batch_size, rounds, device) -> {work: {"s": [seconds of each round], …}}
    bars        what is held against what: (work, other, at most), None: shown without a bar
    batch_size  the usual one, which the bars are set for
    words       (rows, bars) -> further lines of the outcome; bars: whether they count
    """

    run: Callable
    bars: Sequence = ()
    batch_size: int = 16
    words: Callable = lambda rows, bars: ()


def synchronize(device):
    """Wait until the device has done what it was told."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def timed(work, device):
    """A function that runs `work` and returns the seconds it took on the device."""

    def run():
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        return time.perf_counter() - start

    return run


def keep_freed_memory():
    """Ask glibc to keep what is freed, for all works alike; nothing where there is no glibc.

    By itself it hands blocks of more than 32 MiB back at once and takes them from the system anew,
    page by page. Which works that hits, and how hard, changes from process to process.
    """
    # no C library to ask, or one of another kind
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def interleaved(works, rounds, keep_memory=True):
    """{name: {"s": [seconds of each round]}}: all works once, round after round; the first WARM_UP
    are not counted.

    keep_memory  see `keep_freed_memory`; not for works of which some are done by other processes
    """
    if keep_memory:
        keep_freed_memory()
    rows = {name: {"s": []} for name in works}
    for nth in range(WARM_UP + rounds):
        for name, work in works.items():
            seconds = work()
            if nth >= WARM_UP:
                rows[name]["s"].append(seconds)
            print(
                f"round {nth + 1}/{WARM_UP + rounds}: {name} {seconds:.3f} s",
                file=sys.stderr,
                flush=True,
            )
    return rows


def peak_in_a_process(module, *arguments):
    """Bytes that a module's `peak_of(*arguments)` returns in a fresh process with nothing else."""
    code = f"from {module} import peak_of; print(peak_of(*{arguments!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def ratio(rows, name, other):
    """(median over rounds of the ratio of two works of one round, lowest, highest)."""
    found = [a / b for a, b in zip(rows[name]["s"], rows[other]["s"], strict=True)]
    return statistics.median(found), min(found), max(found)


def verdict(value, bar):
    """In words, whether a value is at most the bar; nothing without a bar."""
    return "" if bar is None else f", bar {bar}: {'met' if value <= bar else 'missed'}"
