"""scripts/slurm.py: who reaches what it opens. That it brings workers is tested with the sweep."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SLURM runs on Linux")

ASK = "from distributed import Client; print(Client({!r}, timeout=3).scheduler_info()['workers'])"


@contextmanager
def keeper(project, folder, *arguments, **settings):
    """(process, address) of the script, with an sbatch that takes jobs and runs none."""
    for name in ("sbatch", "scancel"):
        (folder / name).write_text(
            f'#!/bin/sh\ncp "$1" {folder}/job && mv {folder}/job {folder}/job.sh\necho Submitted '
            "batch job 1\n"
        )
        (folder / name).chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "scripts/slurm.py", *arguments],
        cwd=project.root,
        stdout=-1,
        stderr=-1,
        text=True,
        env=os.environ
        | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "DASK_CONFIG": str(folder)}
        | settings,
    )
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def listening(process):
    return [
        c.laddr
        for c in psutil.Process(process.pid).net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    ]


@pytest.mark.parametrize("arguments", [[], ["--interface", "lo"]])
def test_only_the_scheduler_listens_outside_and_says_so(project, tmp_path, arguments):
    with keeper(project, tmp_path, *arguments) as (process, address):
        places = listening(process)
    port = int(address.rsplit(":", 1)[1])
    local = {place.port for place in places if place.ip in ("127.0.0.1", "::1")}
    everywhere = {place.port for place in places} - local
    assert address.startswith("tcp://")
    assert everywhere == (set() if arguments else {port})
    assert local - {port}, "the dashboard answers on this machine"
    assert "whoever reaches this port can run programs in your name" in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "gone", "says"),
    [
        (["--interface", "nowhere0"], "", "'nowhere0' is not a valid network interface"),
        ([], "gone.pem", "gone.pem, which"),
    ],
)
def test_what_it_cannot_open_is_one_sentence(project, tmp_path, arguments, gone, says):
    one = f"{{cert: {gone}, key: {gone}}}"
    (tmp_path / "tls.yaml").write_text(
        f"distributed: {{comm: {{tls: {{ca-file: {gone}, scheduler: {one}, worker: {one}, client: "
        f"{one}}}}}}}"
    )
    with keeper(project, tmp_path, *arguments) as (process, address):
        assert not address
    assert process.returncode == 2
    assert says in process.stderr.read().splitlines()[-1]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_with_a_certificate_nobody_else_gets_in(project, tmp_path):
    """The settings of the book's page."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=trpts",
            "-keyout",
            key,
            "-out",
            cert,
        ],
        check=True,
        capture_output=True,
    )
    one = f"{{cert: {cert}, key: {key}}}"
    (tmp_path / "tls.yaml").write_text(
        f"distributed: {{comm: {{tls: {{ca-file: {cert}, scheduler: {one}, worker: {one}, client: "
        f"{one}}}}}}}"
    )
    with keeper(project, tmp_path) as (process, address):
        inside, without, plain = (
            subprocess.run(
                [sys.executable, "-c", ASK.format(place)],
                env=os.environ | {"DASK_CONFIG": str(settings)},
                capture_output=True,
                text=True,
            )
            for place, settings in (
                (address, tmp_path),
                (address, tmp_path / "none"),
                (address.replace("tls://", "tcp://"), tmp_path / "none"),
            )
        )
        job, end = tmp_path / "job.sh", time.monotonic() + 30
        while not job.is_file() and time.monotonic() < end:  # jobs are sent behind the scenes
            time.sleep(0.1)
    assert address.startswith("tls://")
    assert inside.stdout == "{}\n", inside.stderr
    assert "TLS expects a" in without.stderr
    assert "CommClosedError" in plain.stderr or "Timed out" in plain.stderr
    assert process.stderr.read() == ""
    assert f"--tls-key {key}" in job.read_text()
