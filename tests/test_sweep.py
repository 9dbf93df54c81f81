"""A sweep records each run once, whatever happens to its workers, and goes on where it was
stopped.
"""

import ast
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import dask
import pytest
from distributed import Client, LocalCluster
from made import changed

from trpts.cli import main
from trpts.errors import TrptsError
from trpts_lab import cluster, grid, sweep
from trpts_lab.cli_sweep import forecast
from trpts_lab.experiments import fisher_digits, tuned
from trpts_lab.measured import measure
from trpts_lab.project import Project
from trpts_lab.store import Store

RUN = dict(
    profile="quick",
    device="cpu",
    task="digits",
    method="fisher",
    variant="fisher",
    backbone="vit_small_digits",
)
RUN |= dict(weights=None, epochs=1, n_fisher=64)
KILLED = 12  # runs of a sweep that is killed
WAIT_S = 120


def cells(n):
    """Real runs, the shortest that there are."""
    return [(fisher_digits, RUN | {"seed": seed}) for seed in range(n)]


@pytest.fixture
def checkout(tmp_path, project, monkeypatch):
    """An empty project whose workers start in the real one."""
    monkeypatch.chdir(project.root)
    # as workers have it that nobody has told better
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    return Project(tmp_path)


@pytest.fixture(scope="module")
def both_workers():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as local:
        yield local


@pytest.fixture
def two_workers(both_workers):
    """Both there: one that a test before has killed starts again."""
    wait_until(lambda: len(both_workers.scheduler.workers) == 2)
    return both_workers


def metrics_of(folder):
    return {r["config"]["seed"]: r["metrics"] for r in Store(folder).records()}


@pytest.fixture(scope="module")
def undisturbed(project, both_workers, tmp_path_factory):
    """The records' metrics of a sweep of KILLED runs that nobody interrupts."""
    place = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.root)
        assert sweep.sweep(
            Project(place), cells(KILLED), Store(place / "records"), both_workers.scheduler_address
        ) == ({}, 0)
    return metrics_of(place / "records")


def wait_until(there):
    start = time.monotonic()
    while not there():
        assert time.monotonic() - start < WAIT_S, "waited in vain"
        time.sleep(0.01)


def wait_for_records(folder, n):
    wait_until(lambda: len(list(folder.glob("*.json"))) >= n)


def test_a_killed_worker_costs_nothing(checkout, two_workers, undisturbed, tmp_path, monkeypatch):
    """Of two workers one is killed in mid-run: every record is there, none twice, and all as they
    would have been.
    """
    folder, killed, written = tmp_path / "records", [], []
    add = Store.add
    monkeypatch.setattr(Store, "add", lambda store, made: written.append(add(store, made)))

    def kill_one():
        with cluster.cluster(two_workers.scheduler_address) as client:
            pids = client.run(os.getpid)
            wait_for_records(folder, 2)
            worker = next(worker for worker, keys in client.processing().items() if keys)
            os.kill(pids[worker], signal.SIGKILL)
            killed.append(worker)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    assert sweep.sweep(checkout, cells(KILLED), Store(folder), two_workers.scheduler_address) == (
        {},
        0,
    )
    killer.join(timeout=30)
    assert killed
    assert metrics_of(folder) == undisturbed
    assert len(written) == len(set(written)) == KILLED
    assert len(list(folder.iterdir())) == KILLED  # nothing half-written beside them


def test_a_killed_command_goes_on_from_there(checkout, project, two_workers, undisturbed, tmp_path):
    """SIGKILL leaves it no time to tidy up: the next one finds whole records, no lock, and ends
    with the same.
    """
    folder = tmp_path / "records"
    command = [sys.executable, "-c", SWEEP, tmp_path, two_workers.scheduler_address, str(KILLED)]
    process = subprocess.Popen(
        command,
        cwd=project.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_records(folder, 2)
    process.kill()
    process.wait(timeout=30)
    made = len(Store(folder).records())
    assert 2 <= made < KILLED
    assert sweep.sweep(checkout, cells(KILLED), Store(folder), two_workers.scheduler_address) == (
        {},
        0,
    )
    assert metrics_of(folder) == undisturbed


def test_what_is_there_is_not_done_again(checkout, two_workers, tmp_path, capsys):
    folder = tmp_path / "records"
    first = measure(*cells(1)[0])
    Store(folder).add(first)
    assert sweep.sweep(checkout, cells(3), Store(folder), two_workers.scheduler_address) == ({}, 0)
    said = capsys.readouterr().err
    assert "1 of 3 records are there; 2 to make" in said
    assert (
        "2 workers hand memory back after every use, which makes runs slow: set "
        "MALLOC_TRIM_THRESHOLD_=" in said
    )
    times = {r["config"]["seed"]: r["time_s"] for r in Store(folder).records()}
    assert times[0] == first["time_s"]
    # nobody is asked
    assert sweep.sweep(checkout, cells(3), Store(folder), "tcp://127.0.0.1:1") == ({}, 0)


SWEEP = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_sweep import cells
from trpts_lab import sweep
from trpts_lab.project import Project
from trpts_lab.store import Store
written, add = [], Store.add
print(flush=True)  # all is imported
sys.stdin.readline()
Store.add = lambda store, record: (written.append(record), add(store, record))
folder = Path(sys.argv[1])
store = Store(folder / "records")
outcome = sweep.sweep(Project(folder), cells(int(sys.argv[3])), store, sys.argv[2])
print((*outcome, len(written)))
"""


PACKING = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_sweep import cells
from trpts import cli
from trpts_lab import grid, sweep
from trpts_lab.project import Project
from trpts_lab.store import Store
place = Path(sys.argv[1])
made = [(e, c | {"profile": "full"}) for e, c in cells(int(sys.argv[3]))]
grid.comparison_cells = lambda *_: made
Project.results = lambda self, profile: Store(place / "loose", place / "packed", "full")
sys.exit(cli.main(["sweep", "--scheduler", sys.argv[2]]))
"""


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_sweep_packs_what_it_has(project, two_workers, tmp_path, sign):
    """And the one that goes on packs the rest."""
    store = Store(tmp_path / "loose", tmp_path / "packed", "full")
    command = [sys.executable, "-c", PACKING, tmp_path, two_workers.scheduler_address]
    process = subprocess.Popen([*command, "60"], cwd=project.root, stderr=-1, text=True)
    wait_for_records(store.loose, 2)
    process.send_signal(sign)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on from there" in said
    packed = len((store.packed / "fisher_digits.jsonl").read_text().splitlines())
    assert 2 <= packed < 60
    assert store.single_files() == []
    done = subprocess.run(
        [*command, str(packed + 1)], cwd=project.root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"{packed} of {packed + 1} records are there; 1 to make" in done.stderr
    assert len(store.records()) == packed + 1
    assert store.single_files() == []


def test_a_long_sweep_packs_in_between(checkout, two_workers, tmp_path, monkeypatch):
    store, packed = Store(tmp_path / "records"), []
    monkeypatch.setattr(sweep, "PACK_EVERY_S", 0.0)
    monkeypatch.setattr(Store, "pack", lambda self: packed.append(len(self.records())))
    assert sweep.sweep(checkout, cells(3), store, two_workers.scheduler_address) == ({}, 0)
    assert 0 < next(n for n in packed if n) <= packed[-1] == 3
    assert len(packed) > 2


def test_two_sweeps_at_once_share_the_work(project, two_workers, tmp_path):
    """Each run is done by one of them, and the last to end finds nothing missing."""
    command = [sys.executable, "-c", SWEEP, tmp_path, two_workers.scheduler_address, "12"]
    both = [
        subprocess.Popen(command, cwd=project.root, stdin=-1, stdout=-1, stderr=-1, text=True)
        for _ in range(2)
    ]
    for process in both:
        process.stdout.readline()
    for process in both:  # when both are ready
        process.stdin.write("\n")
        process.stdin.flush()
    made, open_ = 0, []
    for process in both:
        out, errors = process.communicate(timeout=120)
        failed, left, written = ast.literal_eval(out)
        assert failed == {}, errors
        assert 0 < written < 12
        made, open_ = made + written, [*open_, left]
    assert made == len(Store(tmp_path / "records").records()) == 12
    assert 0 in open_


def test_a_run_that_fails_is_named_and_the_others_go_on(checkout, two_workers, tmp_path, capsys):
    folder, some = tmp_path / "records", cells(3)
    some[1][1]["backbone"] = "no_such_model"
    failed, left = sweep.sweep(checkout, some, Store(folder), two_workers.scheduler_address)
    assert left == 0
    assert len(failed) == 1
    assert "no_such_model" in next(iter(failed.values()))
    assert sorted(metrics_of(folder)) == [0, 2]


def test_a_file_that_a_run_lacks_is_its_own_fault(checkout, two_workers, tmp_path):
    """An OSError of an experiment is no lost scheduler."""
    folder, some = tmp_path / "records", cells(2)
    some[0][1]["weights"] = "data/weights/none.safetensors"
    failed, left = sweep.sweep(checkout, some, Store(folder), two_workers.scheduler_address)
    assert left == 0
    assert [text.partition(":")[0] for text in failed.values()] == ["FileNotFoundError"]
    assert list(metrics_of(folder)) == [1]


def test_runs_that_no_worker_can_take_are_refused(checkout, two_workers, tmp_path, capsys):
    """Dask would wait for a worker with a GPU, for ever and without a word."""
    with pytest.raises(
        TrptsError, match="no worker has the resource GPU=1 that runs ask for: start some"
    ):
        sweep.sweep(
            checkout,
            cells(1),
            Store(tmp_path / "records"),
            two_workers.scheduler_address,
            resources={"GPU": 1},
        )
    assert main(["sweep", "--gpu"]) == 2
    assert "--gpu needs --scheduler ADDRESS" in capsys.readouterr().err


def test_schedulers_that_are_none_are_named(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_S", 1)
    with pytest.raises(
        TrptsError, match=r"no scheduler answers at tcp://127\.0\.0\.1:1 .*expected the address"
    ):
        sweep.sweep(checkout, cells(1), Store(tmp_path / "records"), "tcp://127.0.0.1:1")
    with (
        LocalCluster(
            n_workers=0, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as empty,
        pytest.raises(TrptsError, match="has no workers: start some with `dask worker tcp://"),
    ):
        sweep.sweep(checkout, cells(1), Store(tmp_path / "records"), empty.scheduler_address)


def test_a_port_that_says_nothing_is_given_up(checkout, tmp_path, monkeypatch):
    """Something listens there, and it is no scheduler: without an end the command would wait for
    minutes.
    """
    monkeypatch.setattr(cluster, "CONNECT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(TrptsError, match="no scheduler answers at tcp://127"):
            sweep.sweep(
                checkout, cells(1), Store(tmp_path), f"tcp://127.0.0.1:{silent.getsockname()[1]}"
            )
        assert time.monotonic() - start < 20
    with pytest.raises(TrptsError, match="no scheduler answers at tls://127"):
        sweep.sweep(checkout, cells(1), Store(tmp_path), "tls://127.0.0.1:1")


def test_a_scheduler_that_goes_away_leaves_what_was_made(checkout, tmp_path):
    folder = tmp_path / "records"
    local = LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    )

    def stop():
        wait_for_records(folder, 1)
        local.close(timeout=10)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(
        TrptsError, match=r"the scheduler went away after \d+ runs, whose records are kept"
    ):
        sweep.sweep(checkout, cells(30), Store(folder), local.scheduler_address)
    assert 1 <= len(Store(folder).records()) < 30


@pytest.mark.parametrize(
    ("folder", "preload", "said"),
    [
        (None, "", r"TrptsError: .*not inside a checkout"),
        ("a checkout", "import sys; sys.modules['trpts'] = None", r".*ModuleNotFoundError.*trpts"),
    ],
)
def test_a_worker_without_checkout_or_package_is_refused(
    checkout, project, tmp_path, folder, preload, said
):
    """It says what it lacks, and nothing is computed."""
    (tmp_path / "preload.py").write_text(preload)
    with LocalCluster(n_workers=0, dashboard_address=None, host="127.0.0.1") as empty:
        command = [
            sys.executable,
            "-m",
            "distributed.cli.dask_worker",
            empty.scheduler_address,
            "--nthreads",
            "1",
            "--preload",
            str(tmp_path / "preload.py"),
        ]
        worker = subprocess.Popen(
            command,
            cwd=project.root if folder else tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with Client(empty) as client:
                client.wait_for_workers(1, timeout=60)
            with pytest.raises(TrptsError, match=rf"worker tcp://.* cannot run trpts \({said}"):
                sweep.sweep(
                    checkout, cells(1), Store(tmp_path / "records"), empty.scheduler_address
                )
        finally:
            worker.terminate()
            worker.wait(timeout=30)
    assert not list((tmp_path / "records").glob("*.json"))


def test_a_record_of_a_later_version_is_nobodys_to_overwrite(checkout, tmp_path):
    experiment, config = cells(1)[0]
    later = record(config | {"kind": "fisher_digits"}, 0.5, 0.5) | {
        "version": {"experiment fisher_digits": 9}
    }
    path = Store(tmp_path / "records").add(later)
    text = path.read_text()
    with pytest.raises(
        TrptsError, match="made with version 9 of experiment fisher_digits, here it has version 1"
    ):
        sweep.sweep(checkout, [(experiment, config)], Store(path.parent), "tcp://127.0.0.1:1")
    assert path.read_text() == text


def test_our_own_workers_are_as_many_as_asked_for_and_keep_their_memory(monkeypatch):
    # Dask leaves it behind where it has started a worker
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    with cluster.cluster(workers=1) as client:
        assert len(client.scheduler_info()["workers"]) == 1
        assert cluster.check_workers(client, {"fisher_digits"}, cluster.workers_of(client)) == []


def test_workers_with_other_code_are_refused(checkout, two_workers, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "code_hash", lambda: "f" * 16)
    with pytest.raises(
        TrptsError, match=r"worker tcp://.* has other code \([0-9a-f]{16}, not f{16}\)"
    ):
        sweep.sweep(checkout, cells(1), Store(tmp_path / "records"), two_workers.scheduler_address)


def test_a_worker_that_runs_several_at_once_is_refused(checkout, tmp_path):
    """Runs in one process would draw from one generator."""
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as threads:
        with pytest.raises(TrptsError, match=r"has 2 threads, .*start it with --nthreads 1"):
            sweep.sweep(checkout, cells(1), Store(tmp_path / "records"), threads.scheduler_address)
        assert sweep.sweep(
            checkout, cells(2), Store(tmp_path / "records"), threads.scheduler_address, shared=True
        ) == ({}, 0)


def test_a_worker_that_comes_late_is_checked_and_gets_its_share(checkout, tmp_path, monkeypatch):
    seen, most = [], []
    check, futures = sweep.check_workers, sweep._Sweep.futures
    monkeypatch.setattr(
        sweep,
        "check_workers",
        lambda c, k, new, s: (seen.append(list(new)), check(c, k, new, s))[1],
    )

    def counted(self, waiting):
        for future in futures(self, waiting):
            most.append(len(self.held))
            if len(most) == sweep.AHEAD + 1:  # the first run is done
                local.scale(2)
                wait_until(lambda: len(cluster.workers_of(self.client)) == 2)
            yield future

    monkeypatch.setattr(sweep._Sweep, "futures", counted)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as local:
        assert sweep.sweep(
            checkout, cells(6), Store(tmp_path / "records"), local.scheduler_address
        ) == ({}, 0)
    assert [len(new) for new in seen] == [1, 1]
    assert most[: sweep.AHEAD + 1] == [1, 2, 2]
    assert max(most) == 2 * sweep.AHEAD


def test_it_says_that_it_waits_for_a_worker(checkout, tmp_path, monkeypatch):
    """All workers may go, as when a job's time is up; those that come next go on."""
    folder, said = tmp_path / "records", []
    monkeypatch.setattr(sweep, "say", said.append)
    monkeypatch.setattr(sweep, "SPEAK_EVERY_S", 0.1)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as local:

        def go_and_come():
            try:
                wait_for_records(folder, 1)
                local.scale(0)
                wait_until(lambda: "no worker is there: waiting for one" in said[-1])
            finally:  # or the sweep would wait for ever
                local.scale(1)

        threading.Thread(target=go_and_come, daemon=True).start()
        assert sweep.sweep(checkout, cells(3), Store(folder), local.scheduler_address) == ({}, 0)
    assert sorted(metrics_of(folder)) == [0, 1, 2]
    assert any("no worker is there: waiting for one" in words for words in said)


def test_a_worker_that_goes_while_it_is_asked_is_passed_over():
    """It was there a moment ago: the scheduler that asks it finds a closed port."""
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        LocalCluster(n_workers=0, dashboard_address=None, host="127.0.0.1") as local,
        Client(local) as client,
    ):
        assert (
            cluster.check_workers(client, {"fisher_digits"}, {"tcp://127.0.0.1:1": {"nthreads": 1}})
            == []
        )


def test_a_metric_that_is_no_number_is_its_runs_own_fault(checkout, tmp_path, monkeypatch):
    def spoiled(experiment, config, project):
        record = measure(experiment, config, project)
        return record | {"metrics": {"x": float("nan")}} if config["seed"] == 0 else record

    monkeypatch.setattr(cluster, "measure", spoiled)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as local:
        failed, left = sweep.sweep(
            checkout, cells(2), Store(tmp_path / "records"), local.scheduler_address
        )
    assert left == 0
    assert ["metric x is nan, expected a finite number" in words for words in failed.values()] == [
        True
    ]
    assert list(metrics_of(tmp_path / "records")) == [1]


def test_a_record_of_other_code_is_not_written(checkout, two_workers, tmp_path, monkeypatch):
    """A worker may come and go between two looks."""
    monkeypatch.setattr(sweep, "code_hash", lambda: "f" * 16)
    with pytest.raises(
        TrptsError, match="was made by other code: bring the checkouts of all workers"
    ):
        sweep.sweep(checkout, cells(1), Store(tmp_path / "records"), two_workers.scheduler_address)
    assert not list((tmp_path / "records").glob("*"))


def test_a_full_disk_ends_the_sweep(checkout, two_workers, tmp_path, monkeypatch):
    """What cannot be kept need not be computed."""
    folder, tried = tmp_path / "records", []

    def write(store, record):
        tried.append(record)
        if len(tried) == 2:
            raise TrptsError("cannot write: no space left on device")
        add(store, record)

    add = Store.add
    monkeypatch.setattr(Store, "add", write)
    with pytest.raises(TrptsError, match="no space left"):
        sweep.sweep(checkout, cells(6), Store(folder), two_workers.scheduler_address)
    assert len(Store(folder).records()) == 1


SBATCH = """#!/bin/sh
cp "$1" {place}/job.sh
setsid sh {place}/job.sh >{place}/job.log 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job; do echo "$job" >> {place}/cancelled; kill -TERM -- "-$job"; done
"""


@pytest.mark.skipif(os.name == "nt", reason="SLURM runs on Linux")
def test_workers_come_by_slurm(checkout, project, tmp_path):
    """The documented script, with an sbatch that runs the job on the spot and a scancel that ends
    it.
    """
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text.format(place=tmp_path))
        (tmp_path / name).chmod(0o755)
    command = [
        sys.executable,
        "scripts/slurm.py",
        "--cores",
        "2",
        "--hours",
        "0.5",
        "--sbatch=-A=us",
    ]
    keeper = subprocess.Popen(
        command,
        cwd=project.root,
        stdout=-1,
        stderr=-1,
        text=True,
        env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
    )
    try:
        address = keeper.stdout.readline().strip()
        with Client(address) as client:
            client.wait_for_workers(2, timeout=60)
        assert sweep.sweep(checkout, cells(2), Store(tmp_path / "records"), address) == ({}, 0)
    finally:
        keeper.send_signal(signal.SIGTERM)
        _, errors = keeper.communicate(timeout=60)
    assert keeper.returncode == 0, errors
    assert sorted(metrics_of(tmp_path / "records")) == [0, 1]
    job = (tmp_path / "job.sh").read_text()
    assert f"export {cluster.INSTEAD}" in job
    for line in (
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --mem=6G",
        "#SBATCH -t 00:30:00",
        "#SBATCH -A=us",
    ):
        assert line in job
    assert "--nworkers 2" in job
    assert (tmp_path / "cancelled").is_file()


def test_learning_rates_are_chosen_by_validation_images(tmp_path, monkeypatch):
    swept = {"tuning_tasks": ["a", "b"], "compared_tasks": ["a"], "epochs": 1, "batch_size": 8}
    swept |= {"rates": {"few": [0.3], "all": [0.1, 0.2]}}
    profile = {
        "profile": "full",
        "benchmark": {"backbone": "x", "weights": None, "tasks": ["a", "b", "c"], "sweep": swept},
    }
    made = grid.tuning_cells(profile, Store(tmp_path), ["linear"])
    assert [(c["task"], c["lr"]) for _, c in made] == [
        ("a", 0.1),
        ("a", 0.2),
        ("b", 0.1),
        ("b", 0.2),
    ]
    with pytest.raises(
        TrptsError, match=r"linear: 0 of 4 tuning records .*`trpts sweep --tuning` first"
    ):
        grid.comparison_cells(profile, Store(tmp_path), methods=["linear"])
    for (_, config), val, test in zip(
        made, (0.5, 0.9, 0.5, 0.2), (1.0, 0.0, 1.0, 0.0), strict=True
    ):
        Store(tmp_path).add(record(config, val, test))
    rate, means = grid.chosen_rates(profile, Store(tmp_path), ["linear"])["linear"]
    assert means == {0.1: 0.5, 0.2: pytest.approx(0.55)}
    assert rate == 0.2
    cells = grid.comparison_cells(profile, Store(tmp_path), ["c"], ["linear"], [0, 1])
    assert [(c["task"], c["seed"], c["lr"]) for _, c in cells] == [("c", 0, 0.2), ("c", 1, 0.2)]
    with pytest.raises(
        TrptsError, match="task 'd' is not in the profile: expected some of a, b, c"
    ):
        grid.comparison_cells(profile, Store(tmp_path), ["d"], ["linear"])
    with pytest.raises(TrptsError, match="method 'luck' is unknown: expected some of linear; full"):
        grid.tuning_cells(profile, Store(tmp_path), ["luck"])


def record(config, val, test):
    return changed(
        config={"kind": "tuned", **config}, metrics={"val_accuracy": val, "test_accuracy": test}
    )


@pytest.mark.parametrize(
    ("arguments", "of"),
    [
        (["--tuning", "--methods", "linear"], 16),
        (["--further", "text"], 48),
        (["--ablations", "biases"], 24),
    ],
)
def test_the_command_says_what_it_would_do(project, monkeypatch, capsys, arguments, of):
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(grid, "pick_device", lambda: "cpu")
    assert main(["sweep", "--dry-run", *arguments]) == 0
    assert f" of {of} records are missing" in capsys.readouterr().out


def test_runs_on_gpus_are_other_runs(project, monkeypatch, capsys):
    """Whatever the machine that gives the command has: those of the CPU are there."""
    monkeypatch.chdir(project.root)
    command = [
        "sweep",
        "--dry-run",
        "--tuning",
        "--methods",
        "linear",
        "--scheduler",
        "tcp://127.0.0.1:1",
    ]
    monkeypatch.setattr(grid, "pick_device", lambda: "cpu")
    assert main(command) == 0
    assert "0 of 16 records are missing" in capsys.readouterr().out
    assert main([*command, "--gpu"]) == 0
    assert "16 of 16 records are missing" in capsys.readouterr().out


def test_the_command_names_what_failed(project, monkeypatch, capsys):
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(sweep, "sweep", lambda *_: ({"tuned-0.json": "ValueError: no"}, 2))
    assert main(["sweep", "--tuning"]) == 1
    said = capsys.readouterr().err
    assert "sweep: tuned-0.json: ValueError: no" in said
    assert "2 runs are another sweep's: run the command again when it is done" in said


def test_a_forecast_goes_by_like_runs(tmp_path):
    """A variant without a record takes what its kind takes, not what short runs of another kind
    do.
    """
    made = {"method": "m", "task": "t", "profile": "full", "device": "cpu"}
    for kind, variant, seconds in (
        ("tuned", "linear", 1800.0),
        ("tuned", "linear", 3600.0),
        ("pruning", "x", 1.0),
        ("pruning", "y", 1.0),
        ("pruning", "z", 1.0),
    ):
        config = made | {"variant": variant, "seed": int(seconds)}
        Store(tmp_path).add(
            record(config, 0.5, 0.5) | {"config": {"kind": kind, **config}, "time_s": seconds}
        )
    todo = [(tuned, {"variant": "linear"}), (tuned, {"variant": "new"})]
    assert "2 of 9 records are missing: about 1.5 hours" in forecast(todo, 9, Store(tmp_path))
    assert forecast(todo, 9, Store(tmp_path / "empty")) == "2 of 9 records are missing"


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--tuning", "--seeds", "1"], "--seeds"),
        (["--ablations", "--tasks", "digits"], "--tasks"),
        (["--further", "--methods", "GPS"], "--methods"),
    ],
)
def test_an_option_is_not_passed_over_in_silence(capsys, arguments, option):
    assert main(["sweep", "--dry-run", *arguments]) == 2
    assert f"{option} says nothing to {arguments[0]}" in capsys.readouterr().err


def test_workers_are_of_this_machine(capsys):
    assert main(["sweep", "--dry-run", "--workers", "3", "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert "--workers is of this machine's processes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "what", [["--tuning"], [], ["--ablations"], ["--further", "text"], ["--seeds", "3"]]
)
def test_a_profile_without_tuning_tasks_has_nothing_to_choose_by(tiny, capsys, what):
    tiny({"00_a": ["1"]})
    assert main(["sweep", "--dry-run", *what]) == 2
    assert "has no tuning tasks or no learning rates to choose" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["file", "file/below", "/dev/null", "/proc/none"])
def test_a_scratch_folder_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").touch()
    with (
        dask.config.set({"temporary-directory": str(tmp_path / place)}),
        pytest.raises(TrptsError, match=f"cannot write into .*{place}"),
        cluster.cluster(workers=1),
    ):
        pass


@pytest.mark.parametrize("command", [["sweep", "--dry-run"], ["bench", "sweep"]])
@pytest.mark.parametrize("settings", ["- 3", "a: [", "3", "a: b: c"])
def test_settings_of_dask_that_are_none(tmp_path, project, settings, command):
    (tmp_path / "dask.yaml").write_text(settings)
    done = subprocess.run(
        [sys.executable, "-m", "trpts.cli", *command],
        cwd=project.root,
        env=os.environ | {"DASK_CONFIG": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"trpts: Dask's settings are not readable: .*dask\.yaml.*\n", done.stderr)


def test_one_grid_at_a_time(capsys):
    assert main(["sweep", "--tuning", "--ablations"]) == 2
    assert "not allowed with argument" in capsys.readouterr().err
