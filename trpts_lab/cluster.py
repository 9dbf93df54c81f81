"""Where a sweep's runs are computed: worker processes of this machine, or a Dask Distributed
cluster's.

One way for both: Dask hands out the runs and hands them out again when a worker dies. Workers
compute, and write nothing but what experiments write; records come back to the client, which alone
writes them.
"""

import importlib
import logging
import os
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path

import dask
import torch
from distributed import Client, LocalCluster
from distributed.comm import CommClosedError, get_address_host_port, parse_address

from trpts.errors import TrptsError
from trpts_lab.files import make_folder
from trpts_lab.measured import measure
from trpts_lab.project import Project
from trpts_lab.provenance import code_hash

CONNECT_S = 10
# Dask sets MALLOC_TRIM_THRESHOLD_ in its workers, for tables that come and go. A training step asks
# for the same megabytes again each time, and glibc then takes each of them from the system anew:
# the run waits for page faults. Unset, glibc adapts; where Dask's setting cannot be kept out, these
# two take its place.
AS_USUAL = {"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None}
INSTEAD = "MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=33554432"


def n_cores():
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@contextmanager
def cluster(scheduler=None, workers=None):
    """A Dask client of the scheduler at an address; None: of as many processes here as there are
    cores.

    raises  TrptsError: nobody answers there, or there is no worker; Dask's scratch folder cannot be
            written to
    """
    # what matters is said in our own sentences
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if scheduler is None:
        # where worker processes keep their files; one that fails there says so much later
        make_folder(Path(dask.config.get("temporary-directory") or tempfile.gettempdir()))
        with (
            dask.config.set(AS_USUAL),
            LocalCluster(
                n_workers=workers or n_cores(),
                threads_per_worker=1,
                dashboard_address=None,
                host="127.0.0.1",
            ) as local,
            Client(local) as client,
        ):
            yield client
        return
    try:
        _wait_for_a_word(scheduler)
        client = Client(scheduler, timeout=CONNECT_S)
    except (
        OSError,
        TimeoutError,
        ValueError,
        TypeError,
    ) as error:  # TypeError: tls:// without Dask's settings for it
        raise TrptsError(
            f"no scheduler answers at {scheduler} ({type(error).__name__}): expected the address "
            "that `dask scheduler` prints, such as tcp://10.0.0.1:8786"
        ) from error
    with client:
        if not workers_of(client):
            raise TrptsError(
                f"the scheduler at {scheduler} has no workers: start some with `dask worker "
                f"{scheduler} --nthreads 1` in a checkout of this version"
            )
        yield client


def _wait_for_a_word(scheduler):
    """Wait for the first byte from a tcp:// address, at most CONNECT_S; OSError: there is none.

    A Dask scheduler greets whoever connects. Dask's client waits for that without an end where
    something listens that never says a word.
    """
    if parse_address(scheduler)[0] == "tcp":
        with socket.create_connection(get_address_host_port(scheduler), CONNECT_S) as connection:
            if not connection.recv(1):
                raise ConnectionError("the connection was closed")


def workers_of(client):
    """{address: what the scheduler knows of the worker} of all workers that are there now."""
    return client.scheduler_info(n_workers=-1)["workers"]


def check_workers(client, kinds, workers, shared=False):
    """Raise TrptsError unless each of `workers` has one thread, imports the experiments, and has
    our code.

    workers  as `workers_of` has them
    shared   let a worker have more threads: runs then draw from one generator, and their results
             are nobody's
    returns  those whose memory setting makes their runs slow: see INSTEAD
    """
    there, here = list(workers), code_hash()
    for worker, info in workers.items():
        if info["nthreads"] > 1 and not shared:
            raise TrptsError(
                f"worker {worker} has {info['nthreads']} threads, and runs in one process would "
                "draw from one generator: start it with --nthreads 1, and with --nworkers N for "
                "more"
            )
    for worker, found in client.run(
        _code_there, sorted(kinds), workers=there, on_error="return"
    ).items():
        # the worker may just have gone
        if isinstance(found, CommClosedError | ConnectionError) or (
            isinstance(found, OSError) and worker not in workers_of(client)
        ):
            continue
        if isinstance(found, BaseException):
            raise TrptsError(
                f"worker {worker} cannot run trpts ({type(found).__name__}: {found}): install "
                "this version there, and start it in a checkout"
            )
        if found != here:
            raise TrptsError(
                f"worker {worker} has other code ({found}, not {here}): "
                "bring its checkout to this commit"
            )
    slow = client.run(_hands_memory_back, workers=there, on_error="return")
    return [worker for worker, found in slow.items() if found is True]


def check_resources(client, needed):
    """Raise TrptsError unless a worker has {"GPU": 1}, which a run needs: Dask waits silently."""
    for name, amount in needed.items():
        if not any(
            worker["resources"].get(name, 0) >= amount for worker in workers_of(client).values()
        ):
            raise TrptsError(
                f"no worker has the resource {name}={amount:g} that runs ask for: start some with "
                f'`dask worker ADDRESS --nthreads 1 --resources "{name}={amount:g}"`'
            )


def _hands_memory_back():
    return "MALLOC_TRIM_THRESHOLD_" in os.environ and "MALLOC_MMAP_THRESHOLD_" not in os.environ


def _code_there(kinds):
    Project.find()
    for kind in kinds:
        importlib.import_module(f"trpts_lab.experiments.{kind}")
    return code_hash()


def measured(kind, config):
    """Run one experiment in a worker, with weights and data of the checkout that it was started in:
    its record, and the hash of the code there.

    One thread each: how many decides the last digits of a result.
    """
    torch.set_num_threads(1)
    experiment = importlib.import_module(f"trpts_lab.experiments.{kind}")
    return measure(experiment, config, Project.find()), code_hash()
