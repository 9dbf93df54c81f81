"""A sweep: many runs, each recorded once, that may be stopped, repeated, and started twice at the
same time.

A run whose record is there and current is not done again. Before a run is handed out, its name is
locked in build/claims/, so that a second sweep in the same checkout takes others; locks go with the
process that holds them. Records are written one by one, and packed into the committed files every
half hour and at the end, however it ends.
"""

import sys
import time
from collections import deque
from itertools import islice

from distributed import as_completed
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError
from filelock import FileLock, Timeout

from trpts.errors import TrptsError
from trpts_lab.cluster import INSTEAD, check_resources, check_workers, cluster, measured, workers_of
from trpts_lab.files import make_folder
from trpts_lab.measured import current_record
from trpts_lab.provenance import code_hash
from trpts_lab.records import kind_of, record_name, validate

AHEAD = 2  # runs handed out for each thread of the cluster, so that no worker waits for the client
SPEAK_EVERY_S = 20.0
LOOK_EVERY_S = 0.02
# what a machine that stops without a word can lose of the committed files; the runs are kept
PACK_EVERY_S = 1800.0


def missing(cells, store):
    """Those of the cells [(experiment, config)] of which no current record is in `store`."""
    return [cell for cell in cells if current_record(*cell, store) is None]


def sweep(project, cells, store, scheduler=None, workers=None, resources=None, shared=False):
    """Run what is missing of the cells [(experiment, config)]; ({name: error} of failed runs,
    number left to others).

    scheduler  address of a Dask scheduler; None: processes of this machine, `workers` of them
               (default: its cores)
    resources  what a run needs of a worker, as Dask counts it: {"GPU": 1}
    shared     take workers of several threads too, whose runs disturb each other: to measure what
               that would gain
    raises     TrptsError: no scheduler or unfit workers; the scheduler went away; a record could
               not be written. Records made until then are there
    """
    todo = missing(cells, store)
    say(f"{len(cells) - len(todo)} of {len(cells)} records are there; {len(todo)} to make")
    if not todo:
        store.pack()  # of a sweep that was killed
        return {}, 0
    with cluster(scheduler, workers) as client:
        check_resources(client, resources or {})
        return _Sweep(client, make_folder(project.build / "claims"), store, resources, shared).run(
            todo
        )


class _Sweep:
    """Runs in progress: their claims, what failed, what others do."""

    def __init__(self, client, claims, store, resources, shared):
        self.client, self.claims, self.store, self.resources = client, claims, store, resources
        self.shared, self.known, self.kinds = shared, set(), set()
        self.held, self.failed, self.given_up, self.n_done = {}, {}, [], 0

    def run(self, todo):
        waiting, start, of = deque(todo), time.monotonic(), len(todo)
        self.kinds = {kind_of(experiment) for experiment, _ in todo}
        running = as_completed([], loop=self.client.loop)  # not of whatever client is the default
        spoken = packed = start
        try:
            self.hand_out(waiting, running)
            while self.held:
                if not running.has_ready():
                    time.sleep(LOOK_EVERY_S)
                for future in running.next_batch(block=False):
                    self.finish(future)
                    self.hand_out(waiting, running)
                if time.monotonic() - spoken > SPEAK_EVERY_S:
                    spoken = time.monotonic()
                    self.say_how_far(of, spoken - start)
                if time.monotonic() - packed > PACK_EVERY_S:
                    packed = time.monotonic()
                    self.pack()
        finally:
            self.client.cancel([future for future, *_ in self.held.values()])
            for *_, lock in self.held.values():
                lock.release()
            self.pack()  # whatever ended it: an error of packing must not hide that
        self.store.pack()
        return self.failed, len(missing(self.given_up, self.store))

    def pack(self):
        """Pack what is there; what cannot be packed now is said, and is tried again at the end."""
        try:
            self.store.pack()
        except TrptsError as error:
            say(str(error))

    def hand_out(self, waiting, running):
        """Share what is waiting among the workers that are there now; some may have come late."""
        n_threads = sum(worker["nthreads"] for worker in self.workers().values())
        for future in islice(
            self.futures(waiting), max(0, AHEAD * max(1, n_threads) - len(self.held))
        ):
            running.add(future)

    def workers(self):
        """The workers that are there now; those not seen before are checked."""
        try:
            workers = workers_of(self.client)
            new = {address: info for address, info in workers.items() if address not in self.known}
            slow = check_workers(self.client, self.kinds, new, self.shared) if new else []
        except OSError as error:
            raise self.gone() from error
        if slow:
            say(
                f"{len(slow)} workers hand memory back after every use, which makes runs slow: "
                f"set {INSTEAD} where they are started"
            )
        self.known |= set(new)
        return workers

    def say_how_far(self, of, seconds):
        n, ours = self.n_done + len(self.failed), of - len(self.given_up)
        words = f"{n} of {ours}" + (f", {seconds / n * (ours - n) / 60:.0f} min to go" if n else "")
        say(words if self.workers() else f"{words}; no worker is there: waiting for one")

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
            # another sweep may have been faster
            if current_record(experiment, config, self.store) is not None:
                lock.release()
                self.given_up.append((experiment, config))
                continue
            future = self.client.submit(
                measured,
                kind_of(experiment),
                config,
                key=f"{name}-{time.time_ns()}",
                resources=self.resources,
                pure=False,
            )
            self.held[future.key] = future, lock
            yield future

    def finish(self, future):
        """Write the record that a run gave, or note why it gave none."""
        lock = self.held.pop(future.key)[-1]
        name = future.key.rpartition("-")[0]
        try:
            record, code = future.result()
            validate(record, name)  # one with a metric that is no number is that run's fault
        except (FutureCancelledError, CommClosedError) as error:
            raise self.gone() from error
        except Exception as error:
            self.failed[name] = f"{type(error).__name__}: {error}"
            say(f"{name} failed: {self.failed[name]}")
        else:
            if code != code_hash():  # of a worker that came and went
                raise TrptsError(
                    f"{name} was made by other code: "
                    "bring the checkouts of all workers to this commit"
                )
            self.store.add(record)
            self.n_done += 1
        finally:
            lock.release()

    def gone(self):
        return TrptsError(
            f"the scheduler went away after {self.n_done} runs, whose records are kept: the same "
            "command goes on from there"
        )


def say(text):
    print(f"sweep: {text}", file=sys.stderr, flush=True)
