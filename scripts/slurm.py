"""Start workers by SLURM for `trpts sweep --scheduler ADDRESS`; prints the address and keeps them
until Ctrl-C.

    .venv/bin/python scripts/slurm.py --jobs 4 --cores 8 --hours 4 --partition NAME
    .venv/bin/python scripts/slurm.py --jobs 4 --cores 4 --hours 4 --gpu  # so does the sweep

Run it in a checkout that the nodes see under the same path. Each job is a node's share: one process
a core, one thread each, or one process in all with a GPU. A job that SLURM ends loses the runs it
was in the middle of; they are handed to another, and jobs are sent again as long as this command
runs.

Whoever reaches the scheduler can run programs in your name, unless Dask's TLS is set up: the book's
page on sweeping says how. Its dashboard answers on this machine alone.
"""

import argparse
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from dask.utils import parse_bytes
from dask_jobqueue import SLURMCluster
from distributed import Security

from trpts_lab.cluster import INSTEAD

OPEN = (
    "warning: the connection is not encrypted, and whoever reaches this port can run programs in "
    "your name; use it only in a network whose users you trust, or set up Dask's TLS "
    "(book/sweeping.md)"
)


def tls():
    """Dask's TLS settings where they name all files that are needed, else None; FileNotFoundError:
    one is not there.
    """
    security = Security()  # of Dask's configuration files and environment
    roles = [security.get_tls_config_for_role(role) for role in ("scheduler", "worker", "client")]
    files = [role[part] for role in roles for part in ("ca_file", "cert", "key")]
    if not all(files):
        return None
    for file in files:
        if not Path(file).is_file():
            raise FileNotFoundError(f"Dask's TLS settings name {file}, which is not there")
    return security


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="how many jobs to keep in the queue (default: 1)"
    )
    parser.add_argument("--cores", type=int, default=1, help="of each job")
    parser.add_argument("--memory", default="3GB", help="of each process (default: 3GB)")
    parser.add_argument("--hours", type=float, default=2, help="time limit of a job")
    parser.add_argument("--partition", help="SLURM's partition; default: the site's own")
    parser.add_argument(
        "--interface", help="network that the scheduler listens on, such as ib0; default: all"
    )
    parser.add_argument("--gpu", action="store_true", help="one GPU a job, named GPU=1 to Dask")
    parser.add_argument(
        "--sbatch", action="append", default=[], metavar="LINE", help="more, as --sbatch=-A=account"
    )
    arguments = parser.parse_args()
    gpu = {
        "processes": 1,
        "job_extra_directives": ["--gres=gpu:1", *arguments.sbatch],
        "worker_extra_args": ["--resources", "GPU=1", "--nthreads", "1"],
    }
    cpu = {"processes": arguments.cores, "job_extra_directives": arguments.sbatch}
    keep_memory = [f"export {INSTEAD}"]
    how = gpu if arguments.gpu else cpu
    minutes = max(1, round(60 * arguments.hours))
    memory = how["processes"] * parse_bytes(arguments.memory)
    try:
        security = tls()
        cluster = SLURMCluster(
            cores=arguments.cores,
            memory=memory,
            queue=arguments.partition,
            interface=arguments.interface,
            walltime=f"{minutes // 60:02d}:{minutes % 60:02d}:00",
            security=security,
            scheduler_options={"dashboard_address": "127.0.0.1:0"},
            job_script_prologue=keep_memory,
            **how,
        )
    except (
        FileNotFoundError,
        RuntimeError,
    ) as error:  # RuntimeError: Dask's, for a network that is not there
        parser.error(str(error))
    if security is None:
        print(OPEN, file=sys.stderr, flush=True)
    with cluster:
        # a job that ended is sent again
        cluster.adapt(minimum_jobs=arguments.jobs, maximum_jobs=arguments.jobs)
        print(cluster.scheduler_address, flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
