"""The set-up script: too old a Python, no ensurepip, an index that lies."""

import functools
import hashlib
import http.server
import importlib.util
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest


@pytest.fixture
def bootstrap(project, tmp_path, monkeypatch):
    """The script as a module, with its environment in a temporary folder."""
    spec = importlib.util.spec_from_file_location(
        "bootstrap", project.root / "scripts" / "bootstrap.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path / "venv")
    monkeypatch.setattr(module, "BIN", tmp_path / "venv" / module.BIN.name)
    monkeypatch.setattr(module, "STAMP", tmp_path / "venv" / "stamp")
    return module


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index on this machine that offers two pip wheels; returns a function that sets the
    stated hash.
    """
    folder = tmp_path / "index" / "pip"
    folder.mkdir(parents=True)
    names = ["pip-9.0-py3-none-any.whl", "pip-25.1-py3-none-any.whl", "pip-26.0b1-py3-none-any.whl"]
    for name in names:
        with zipfile.ZipFile(folder / name, "w") as wheel:
            wheel.writestr("pip/__main__.py", f"print({name!r})")

    def offer(digest=None):
        right = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
        page = "".join(
            f'<a href="{name}#sha256={digest or right[name]}">{name}</a>' for name in names
        )
        (folder / "index.html").write_text(page)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(folder.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/")
    yield offer
    server.shutdown()


def test_too_old_a_python_says_what_to_do(bootstrap, monkeypatch):
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    with pytest.raises(
        SystemExit, match=r"Python 3\.9\.2 is too old: 3\.11 or newer is needed\. Install one"
    ):
        bootstrap.main()


def test_too_old_a_python_hands_over_to_a_newer_one(bootstrap, monkeypatch):
    called = []
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(
        bootstrap.shutil, "which", lambda name: "newer" if name == "python3.12" else None
    )

    def replace_process(path, arguments):
        called.append(path)
        raise SystemExit

    monkeypatch.setattr(bootstrap.os, "execv", replace_process)
    with pytest.raises(SystemExit):
        bootstrap.main()
    assert called == ["newer"]


def test_script_is_readable_by_old_pythons(project):
    """It must start on a Python too old for the package, to be able to say so: no syntax newer than
    3.8.
    """
    import ast

    source = (project.root / "scripts" / "bootstrap.py").read_text()
    assert ast.parse(source, feature_version=(3, 8)).body
    with pytest.raises(SyntaxError):
        ast.parse(source + "\nmatch 1:\n    case 1: pass\n", feature_version=(3, 8))


def test_without_ensurepip_the_newest_release_of_pip_is_fetched(bootstrap, index, tmp_path):
    index()
    python = tmp_path / "python"  # a Python without ensurepip
    python.write_text(
        f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    command = bootstrap.make_venv(str(python))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "pip-25.1-py3-none-any.whl\n"
    assert Path(command[0]).parent == bootstrap.BIN
    kept = bootstrap.VENV / "lib" / "kept"
    kept.touch()
    assert bootstrap.make_venv(str(python)) == command
    assert kept.exists(), "what was installed must survive the next call"


def test_dead_interpreter_is_replaced(bootstrap):
    """The system's Python was upgraded: the environment's link leads nowhere, whatever the stamp
    says.
    """
    bootstrap.make_venv(sys.executable)
    (bootstrap.BIN / "python").unlink()
    (bootstrap.BIN / "python").symlink_to("/nowhere/python")
    assert not bootstrap.works(bootstrap.BIN / "python")
    assert bootstrap.make_venv(sys.executable) == [str(bootstrap.BIN / "python"), "-m", "pip"]
    assert bootstrap.works(bootstrap.BIN / "python", "import pip")


def test_file_in_the_way_gives_one_sentence(project, bootstrap, tmp_path):
    for name in bootstrap.PINS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((project.root / name).read_bytes())
    (tmp_path / ".venv").write_text("a file")
    done = subprocess.run(
        [sys.executable, tmp_path / "scripts" / "bootstrap.py"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "run the command again" in done.stderr


def test_a_wheel_with_another_hash_is_refused(bootstrap, index):
    index(digest="0" * 64)
    bootstrap.VENV.mkdir()
    with pytest.raises(
        SystemExit, match="does not have the hash that the index states; nothing was installed"
    ):
        bootstrap.pip_wheel()
    assert not list(bootstrap.VENV.glob("*.whl"))


def test_no_index_says_what_to_do(bootstrap, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    with pytest.raises(SystemExit, match="python3-venv"):
        bootstrap.pip_wheel()


def test_progress_names_steps_without_addresses(bootstrap):
    log = (
        "Collecting torch==2.15.0\n  Downloading https://host.example/a/b/torch-2.15.0-cp311.whl "
        "(530 MB)\n"
    )
    assert bootstrap.doing("") == "starting"
    assert bootstrap.doing(log) == "Downloading torch-2.15.0-cp311.whl (530 MB)"
    assert (
        bootstrap.doing(log + "Installing collected packages: a, b, c\n")
        == "installing the packages"
    )


def test_failed_installation_leaves_no_stamp(bootstrap, monkeypatch, capsys):
    monkeypatch.setattr(
        bootstrap,
        "make_venv",
        lambda python: [sys.executable, "-c", "print('no such thing'); exit(1)"],
    )
    bootstrap.VENV.mkdir()
    with pytest.raises(SystemExit, match="the installation failed"):
        bootstrap.main()
    assert not bootstrap.STAMP.exists()
    assert "no such thing" in capsys.readouterr().err


def test_stamp_follows_the_pins(bootstrap, project, tmp_path):
    """Another pin, another extra or another place: the environment is looked at again."""
    for name in bootstrap.PINS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((project.root / name).read_bytes())
    here = bootstrap.wanted()
    bootstrap.ROOT = tmp_path
    elsewhere = bootstrap.wanted()
    assert elsewhere == bootstrap.wanted() != here
    for name in ("constraints.txt", "real_parts.txt"):
        before = bootstrap.wanted()
        (tmp_path / name).write_text("torch==2.0.0\n")
        assert bootstrap.wanted() != before


# real weights and images


def test_real_parts_come_last_by_hash_and_alone(bootstrap, monkeypatch):
    """Two calls of pip: packages by their pins, then, without dependencies, those with hashes; the
    stamp after both.
    """
    called = []
    monkeypatch.setattr(bootstrap, "make_venv", lambda python: ["pip"])
    monkeypatch.setattr(
        bootstrap, "install", lambda pip, what: called.append((what, bootstrap.STAMP.exists()))
    )
    bootstrap.VENV.mkdir()
    bootstrap.main()
    assert called == [
        (["-c", "constraints.txt", "-e", ".", "-e", "./trpts_lab[pdf,slurm,test]"], False),
        (["--no-deps", "--require-hashes", "-r", "real_parts.txt"], False),
    ]
    assert bootstrap.STAMP.read_text() == bootstrap.wanted()


def test_a_real_part_with_another_hash_is_refused_and_named(bootstrap, index, project, tmp_path):
    """By pip itself, from an index on this machine; and a part that the index does not have."""
    folder = tmp_path / "index" / "toys"
    folder.mkdir()
    with zipfile.ZipFile(folder / "toys-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            "toys-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n"
        )
        wheel.writestr(
            "toys-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("toys-1.0.dist-info/RECORD", "")
    (folder / "index.html").write_text(
        '<a href="toys-1.0-py3-none-any.whl">toys-1.0-py3-none-any.whl</a>'
    )
    right = hashlib.sha256((folder / "toys-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    bootstrap.VENV.mkdir()
    bootstrap.ROOT = tmp_path
    # an environment made without ensurepip runs pip from it
    wheels = sorted((project.root / ".venv").glob("pip-*.whl"))
    pip = ["-m", "pip"] if importlib.util.find_spec("pip") else [f"{wheels[-1]}/pip"]
    pip = [sys.executable, *pip, "--isolated", "--no-cache-dir"]
    what = [
        *bootstrap.REAL_PARTS,
        "--target",
        str(tmp_path / "site"),
        "--index-url",
        os.environ["PIP_INDEX_URL"],
    ]

    def ask_for(line):
        (tmp_path / "real_parts.txt").write_text(f"{line}\n")
        bootstrap.install(pip, what)

    ask_for(f"toys==1.0 --hash=sha256:{right}")
    assert (tmp_path / "site" / "toys-1.0.dist-info").is_dir()
    found = rf"toys==1.0 has sha256 {right[:12]}…, expected 000000000000…"
    refused = f"{found}: the package index holds another file than"
    with pytest.raises(
        SystemExit,
        match=rf"the installation failed: {refused} real_parts.txt names, use another index",
    ):
        ask_for(f"toys==1.0 --hash=sha256:{'0' * 64}")
    with pytest.raises(
        SystemExit,
        match=r"failed: the package index does not offer toys==2.0: name another in PIP_",
    ):
        ask_for(f"toys==2.0 --hash=sha256:{right}")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on "
            "device",
            "the disk is full: ",
        ),
        (
            "Retrying after connection broken by 'NewConnectionError('...')\nERROR: No matching "
            "distribution found for a==1",
            "the package index cannot be reached: ",
        ),
        (
            "ERROR: No matching distribution found for torch==2.15.0",
            "the package index does not offer torch==2.15.0: ",
        ),
        (
            "THESE PACKAGES DO NOT MATCH THE HASHES in words of another pip",
            "a package differs: the package index holds ",
        ),
        ("something else", "see pip's message above"),
    ],
)
def test_why_pip_failed(bootstrap, words, expected):
    assert bootstrap.reason(words).startswith(expected)
