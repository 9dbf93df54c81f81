"""How a sweep should use a machine's cores: processes or threads; and what the sweep itself adds to
its runs.

Real runs of the comparison, shortened to an epoch, recorded as in a sweep into a folder that is
thrown away.
"""

import tempfile
from pathlib import Path

import dask
import torch
from distributed import LocalCluster

from trpts_lab import grid
from trpts_lab.bench.clock import Bench, interleaved, timed, verdict
from trpts_lab.cluster import AS_USUAL, n_cores
from trpts_lab.compared import METHODS, OURS
from trpts_lab.experiments import tuned
from trpts_lab.measured import measure
from trpts_lab.profiles import load_profile
from trpts_lab.project import Project
from trpts_lab.store import Store
from trpts_lab.sweep import sweep

TASK = "digits"
RUNS_PER_CORE = 2
ONE, ALL = "in turn, one thread", "in turn, all threads"
THREADS, PROCESSES = "sweep, threads of one process", "sweep, a process for each core"


def bench_sweep(batch_size=8, rounds=2, device="cpu"):
    """{way: {"s": [seconds of all runs, per round], "runs_s": [Σ of runs' own], "n_workers"}}"""
    n = n_cores()
    profile = load_profile(Project.find(), "full")
    shared = grid.common(profile, device) | {
        "profile": "quick",
        "epochs": 1,
        "batch_size": batch_size,
    }
    cells = [
        (tuned, tuned.cell(OURS, *METHODS[OURS], TASK, seed, 3e-3, **shared))
        for seed in range(RUNS_PER_CORE * n)
    ]
    inside = {way: [] for way in (ONE, ALL, THREADS, PROCESSES)}
    with (
        dask.config.set(AS_USUAL),
        LocalCluster(
            n_workers=1, threads_per_worker=n, processes=False, dashboard_address=None
        ) as threads,
        LocalCluster(
            n_workers=n, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as processes,
    ):
        works = {
            ONE: timed(lambda: inside[ONE].append(_in_turn(cells, 1)), device),
            ALL: timed(lambda: inside[ALL].append(_in_turn(cells, n)), device),
            THREADS: timed(
                lambda: inside[THREADS].append(_swept(cells, threads, shared=True)), device
            ),
            PROCESSES: timed(lambda: inside[PROCESSES].append(_swept(cells, processes)), device),
        }
        rows = interleaved(works, rounds, keep_memory=False)
    for way, row in rows.items():
        row |= {
            "runs_s": inside[way][-rounds:],
            "n_workers": n if way in (THREADS, PROCESSES) else 1,
            "n": len(cells),
        }
    return rows


def _in_turn(cells, n_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        return sum(measure(*cell)["time_s"] for cell in cells)
    finally:
        torch.set_num_threads(before)


def _swept(cells, cluster, shared=False):
    with tempfile.TemporaryDirectory() as place:
        store = Store(Path(place) / "records")
        failed, left = sweep(
            Project(Path(place)), cells, store, cluster.scheduler_address, shared=shared
        )
        if failed or left:
            raise RuntimeError(f"{len(failed) + left} runs of the bench were not made: {failed}")
        return sum(record["time_s"] for record in store.records())


def overhead(row):
    """Share of the runs' time that workers wait, write and hash besides; median over rounds."""
    shares = sorted(
        row["n_workers"] * wall / runs - 1
        for wall, runs in zip(row["s"], row["runs_s"], strict=True)
    )
    return shares[len(shares) // 2]


def _own_part(rows, bars):
    share = overhead(rows[PROCESSES])
    yield f"the sweep's own part of its runs: {share:.3f}{verdict(share, 0.03 if bars else None)}"


BENCH = Bench(
    bench_sweep, [(PROCESSES, ONE, None), (PROCESSES, THREADS, 1.0)], batch_size=8, words=_own_part
)
