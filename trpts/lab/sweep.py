"""A sweep: many runs, each recorded once, that may be stopped, repeated, and started twice at the same time.

A run whose record is there and current is not done again. Before a run is handed out, its name is locked in
build/claims/, so that a second sweep in the same checkout takes others; locks go with the process that holds them.
"""

import sys
import time
from collections import deque
from itertools import islice

from distributed import as_completed
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError
from filelock import FileLock, Timeout

from trpts.lab.cluster import INSTEAD, check_resources, check_workers, cluster, measured
from trpts.lab.errors import TrptsError
from trpts.lab.project import make_folder
from trpts.lab.records import current_record, kind_of, record_name, write_record

AHEAD = 2  # runs handed out for each thread of the cluster, so that no worker waits for the client
SPEAK_EVERY_S = 20.0


def missing(cells, folder):
    """Those of the cells [(experiment, config)] of which no current record is in `folder`."""
    return [cell for cell in cells if current_record(*cell, folder) is None]


def sweep(project, cells, folder, scheduler=None, workers=None, resources=None):
    """Run what is missing of the cells [(experiment, config)]; ({name: error} of failed runs, number left to others).

    scheduler  address of a Dask scheduler; None: processes of this machine, `workers` of them (default: its cores)
    resources  what a run needs of a worker, as Dask counts it: {"GPU": 1}
    raises     TrptsError: no scheduler or unfit workers; the scheduler went away. Records made until then are there
    """
    todo = missing(cells, folder)
    say(f"{len(cells) - len(todo)} of {len(cells)} records are there; {len(todo)} to make")
    if not todo:
        return {}, 0
    with cluster(scheduler, workers) as client:
        if slow := check_workers(client, {kind_of(experiment) for experiment, _ in todo}):
            say(f"{len(slow)} workers hand memory back after every use, which makes runs slow: set {INSTEAD} where "
                "they are started")  # fmt: skip
        check_resources(client, resources or {})
        return _Sweep(client, make_folder(project.build / "claims"), folder, resources).run(todo)


class _Sweep:
    """Runs in progress: their claims, what failed, what others do."""

    def __init__(self, client, claims, folder, resources):
        self.client, self.claims, self.folder, self.resources = client, claims, folder, resources
        self.held, self.failed, self.given_up, self.n_done = {}, {}, [], 0

    def run(self, todo):
        waiting, start = deque(todo), time.monotonic()
        n_threads = sum(worker["nthreads"] for worker in self.client.scheduler_info()["workers"].values())
        spoken, of = start, len(todo)
        try:
            first = islice(self.futures(waiting), AHEAD * n_threads)
            running = as_completed(first, loop=self.client.loop)  # not of whatever client is the default
            for future in running:
                self.finish(future)
                for another in islice(self.futures(waiting), 1):
                    running.add(another)
                if time.monotonic() - spoken > SPEAK_EVERY_S:
                    spoken = time.monotonic()
                    n, ours = self.n_done + len(self.failed), of - len(self.given_up)
                    say(f"{n} of {ours}, {(spoken - start) / max(1, n) * (ours - n) / 60:.0f} min to go")
        finally:
            self.client.cancel([future for future, _ in self.held.values()])
            for _, lock in self.held.values():
                lock.release()
        return self.failed, len(missing(self.given_up, self.folder))

    def futures(self, waiting):
        """Hand out, one by one, what nobody else has."""
        while waiting:
            experiment, config = waiting.popleft()
            name = record_name({"kind": kind_of(experiment), **config})
            lock = FileLock(self.claims / f"{name}.lock", timeout=0)
            try:
                lock.acquire()
            except Timeout:
                self.given_up.append((experiment, config))
                continue
            if current_record(experiment, config, self.folder) is not None:  # another sweep was faster
                lock.release()
                self.given_up.append((experiment, config))
                continue
            future = self.client.submit(measured, kind_of(experiment), config, key=f"{name}-{time.time_ns()}",
                                        resources=self.resources, pure=False)  # fmt: skip
            self.held[future.key] = future, lock
            yield future

    def finish(self, future):
        """Write the record that a run gave, or note why it gave none."""
        _, lock = self.held.pop(future.key)
        name = future.key.rpartition("-")[0]
        try:
            write_record(future.result(), self.folder)
            self.n_done += 1
        except (FutureCancelledError, CommClosedError) as error:
            raise TrptsError(f"the scheduler went away after {self.n_done} runs, whose records are kept: the same "
                             "command goes on from there") from error  # fmt: skip
        except Exception as error:
            self.failed[name] = f"{type(error).__name__}: {error}"
            say(f"{name} failed: {self.failed[name]}")
        finally:
            lock.release()


def say(text):
    print(f"sweep: {text}", file=sys.stderr, flush=True)
