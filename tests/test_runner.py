"""The runner: good, failing, refused, interrupted and resumed runs of small notebooks."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from conftest import BENCHMARK
from trpts.cli import main
from trpts_lab.book import runner
from trpts_lab.book.chapters import copy_state, find_chapters
from trpts_lab.book.runner import where

GOOD = "print('fine')"
BAD = "raise RuntimeError('asked to fail')"


def executed(project, name):
    return nbformat.read(project.runs("quick") / f"{name}.ipynb", as_version=4)


def test_good_run_then_nothing_to_do(tiny, capsys):
    project = tiny({"00_a": [GOOD], "01_b": [GOOD]})
    assert main(["run"]) == 0
    assert "fine" in executed(project, "00_a").cells[-1].outputs[0].text
    out = capsys.readouterr().out
    assert re.search(r"^00_a: running.*\n(.*\n)*00_a: done in \d+ s$", out, re.M)
    assert "\r" not in out
    assert main(["run"]) == 0
    assert capsys.readouterr().out == "00_a: up to date\n01_b: up to date\n"


def test_only_what_changed_runs_again(tiny, capsys):
    project = tiny({"00_a": [GOOD], "01_b": [GOOD]})
    main(["run"])
    nb = nbformat.read(project.notebooks / "01_b.ipynb", as_version=4)
    nb.cells[-1].source = "print('changed')"
    nbformat.write(nb, project.notebooks / "01_b.ipynb")
    capsys.readouterr()
    main(["run"])
    out = capsys.readouterr().out
    assert "00_a: up to date" in out
    assert "01_b: done" in out
    assert "changed" in executed(project, "01_b").cells[-1].outputs[0].text


def test_failing_notebook_is_kept_aside_and_named(tiny, capsys):
    project = tiny({"00_a": [GOOD, BAD, GOOD], "01_b": [GOOD]})
    assert main(["run"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"00_a: FAILED after \d+ s: cell 5: RuntimeError: asked to fail", out)
    assert "build/runs/quick/failed/00_a.ipynb" in out
    assert (project.runs("quick") / "failed" / "00_a.ipynb").is_file()
    assert not (project.runs("quick") / "00_a.ipynb").exists()
    assert (project.runs("quick") / "01_b.ipynb").is_file(), (
        "a failure must not keep the others from running"
    )
    assert main(["book"]) == 2
    assert "no book was built: 00_a failed" in capsys.readouterr().err


def test_what_a_killed_run_left_is_removed(tiny):
    project = tiny({"00_a": [GOOD]})
    leftover = project.runs("quick") / "partial" / "00_a-1.ipynb"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("half")
    assert main(["run"]) == 0
    assert not leftover.exists()


def test_repaired_notebook_runs_again(tiny, capsys):
    project = tiny({"00_a": [BAD]})
    main(["run"])
    nb = nbformat.read(project.notebooks / "00_a.ipynb", as_version=4)
    nb.cells[-1].source = GOOD
    nbformat.write(nb, project.notebooks / "00_a.ipynb")
    assert main(["run"]) == 0
    assert not (project.runs("quick") / "failed" / "00_a.ipynb").exists()


def test_parameters_reach_the_notebook_and_unknown_ones_are_refused(tiny, capsys):
    project = tiny({"00_a": ["print(n * 2)"]}, "profile = 'quick'\nn = 1", {"n": 21})
    assert main(["run"]) == 0
    assert executed(project, "00_a").cells[-1].outputs[0].text == "42\n"
    assert main(["run", "--only", "00", "-p", "n=5"]) == 0
    assert executed(project, "00_a").cells[-1].outputs[0].text == "10\n"
    capsys.readouterr()
    assert main(["run", "--only", "00", "-p", "m=5"]) == 2
    assert capsys.readouterr().err == "trpts: 00_a has no parameter m: it knows n, profile\n"
    assert executed(project, "00_a").cells[-1].outputs[0].text == "10\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "--profile", "huge"],
            "profile 'huge' does not exist: expected one of quick, full, real, paper",
        ),
        (["run", "--only", "07"], "chapter '07' does not exist: there are 00_a"),
        (["run", "-p", "n=1"], "--parameter needs --only"),
        (["run", "--only", "00", "-p", "n"], "--parameter 'n': expected NAME=VALUE"),
        (["run", "--only", "00", "-p", "n=[1"], "--parameter n: '[1' is not readable: expected"),
        (
            ["run", "--only", "00", "-p", "profile=full"],
            "the parameter profile is set by --profile alone",
        ),
        (["run", "--only", "00", "-p", "n=2020-01-01"], "has no parameter n"),
    ],
)
def test_refuses_in_one_sentence(tiny, capsys, arguments, message):
    tiny({"00_a": [GOOD]})
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("trpts: ")
    assert "Traceback" not in captured.err
    assert not captured.out


def test_profile_and_notebook_must_agree(tiny, capsys):
    tiny({"00_a": [GOOD]}, settings={"surplus": 1})
    assert main(["run"]) == 2
    assert "00_a has no parameter surplus" in capsys.readouterr().err


def test_profile_that_leaves_a_parameter_open_is_refused(tiny, capsys):
    tiny({"00_a": [GOOD]}, parameters="profile = 'quick'\nn = 1")
    assert main(["run"]) == 2
    assert "leaves n of chapter 00_a open" in capsys.readouterr().err


def test_unreadable_notebook_and_profile(tiny, capsys):
    project = tiny({"00_a": [GOOD]})
    (project.notebooks / "01_b.ipynb").write_text("{ not a notebook")
    assert main(["run"]) == 2
    assert "01_b.ipynb: not a readable notebook" in capsys.readouterr().err
    (project.notebooks / "01_b.ipynb").unlink()
    (project.root / "profiles" / "quick.yaml").write_text("profile: [")
    assert main(["run"]) == 2
    assert "quick.yaml: not a readable profile" in capsys.readouterr().err


def test_outside_a_checkout(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run"]) == 2
    assert "is not inside a checkout of trpts" in capsys.readouterr().err


def test_build_folder_that_cannot_be_written(tiny, capsys):
    project = tiny({"00_a": [GOOD]})
    project.build.write_text("a file in the way")
    assert main(["run"]) == 2
    assert re.search(r"trpts: cannot write into .*build.*make it writable", capsys.readouterr().err)


def test_kernel_that_dies_is_a_failure(tiny, capsys):
    project = tiny({"00_a": ["import os; os._exit(3)"]})
    assert main(["run"]) == 1
    assert "00_a: FAILED" in capsys.readouterr().out
    assert not (project.runs("quick") / "00_a.ipynb").exists()


@pytest.mark.parametrize("place", ["JUPYTER_PATH", "JUPYTER_DATA_DIR"])
def test_a_foreign_kernel_of_that_name_is_passed_over(tiny, tmp_path, monkeypatch, place):
    """Another Python would run the cells, without a word."""
    project = tiny({"00_a": ["import sys; print(sys.executable)"]})
    (tmp_path / "jupyter" / "kernels" / "python3").mkdir(parents=True)
    spec = {"argv": ["false", "{connection_file}"], "display_name": "other", "language": "python"}
    (tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv(place, str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    assert main(["run"]) == 0
    assert executed(project, "00_a").cells[-1].outputs[0].text == f"{sys.executable}\n"


def test_a_kernel_that_nobody_has_is_a_failure(tiny, capsys):
    project = tiny({"00_a": [GOOD]})
    nb = nbformat.read(project.notebooks / "00_a.ipynb", as_version=4)
    nb.metadata.kernelspec.name = "ir"
    nbformat.write(nb, project.notebooks / "00_a.ipynb")
    assert main(["run"]) == 1
    assert "No such kernel named ir" in capsys.readouterr().out


def test_long_cells_say_where_they_are(tiny, capsys, monkeypatch):
    monkeypatch.setattr(runner, "HEARTBEAT_S", 0.3)
    tiny(
        {
            "00_a": [
                "import sys, time\nprint('epoch 1/2', file=sys.stderr, flush=True)\ntime.sleep(2)"
            ]
        }
    )
    assert main(["run"]) == 0
    assert re.search(r"^  00_a: cell 4 of 4 \(epoch 1/2\), \d+ s$", capsys.readouterr().out, re.M)


def test_where_without_a_running_cell():
    assert where(nbformat.v4.new_notebook()) == "between cells"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_goes_on(tiny, signum):
    """Stop the second of two notebooks half-way: nothing half-written, no kernel left, the next run
    goes on there.
    """
    slow = "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\n"
    slow += "time.sleep(0 if pathlib.Path('go').exists() else 60)\nprint('slow done')"
    project = tiny({"00_a": [GOOD], "01_b": [slow]})
    command = [sys.executable, "-m", "trpts.cli", "run"]
    process = subprocess.Popen(
        command,
        cwd=project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signum, signal.SIG_DFL
        ),  # a test run in the background may ignore interrupts
    )
    pid = project.root / "pid"
    while not (pid.exists() and pid.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signum)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err
    assert err.strip().splitlines()[-1].startswith("trpts: interrupted; what was finished is kept")
    assert "Traceback" not in err
    assert sorted(p.name for p in project.runs("quick").rglob("*.ipynb")) == ["00_a.ipynb"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    (project.root / "go").touch()
    done = subprocess.run(command, cwd=project.root, capture_output=True, text=True)
    assert done.returncode == 0
    assert "00_a: up to date" in done.stdout
    assert "01_b: done" in done.stdout


def test_copy_states(tiny):
    project = tiny({"00_a": [GOOD]}, "profile = 'quick'\nn = 1", {"n": 1})
    (chapter,) = find_chapters(project)
    settings, folder = {"profile": "quick", "n": 1}, project.runs("quick")
    assert copy_state(chapter, settings, folder) == "not run"
    main(["run"])
    assert copy_state(chapter, settings, folder) == "current"
    assert copy_state(chapter, settings | {"n": 2}, folder) == "other profile or data"
    nb = nbformat.read(chapter.path, as_version=4)
    nb.cells[-1].source += "  # a change"
    nbformat.write(nb, chapter.path)
    (changed,) = find_chapters(project)
    assert copy_state(changed, settings, folder) == "other code"
    (folder / "failed").mkdir()
    (folder / "failed" / "00_a.ipynb").touch()
    assert copy_state(changed, settings, folder) == "failed"


def test_value_that_no_record_can_hold_is_refused(tiny, capsys):
    tiny({"00_a": [GOOD]}, "profile = 'quick'\nn = 1", {"n": 1})
    assert main(["run", "--only", "00", "-p", "n=2020-01-01"]) == 2
    assert "the parameter n of 00_a: '2020-01-01': expected a whole" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "message"), [("1 +", "cell 3 is not Python"), ("%time 1", None), ("!true", None)]
)
def test_cells_that_are_not_plain_python(tiny, capsys, source, message):
    tiny({"00_a": [source]})
    assert main(["run"]) == (1 if message else 0)
    assert (message or "00_a: done") in capsys.readouterr().out


def test_default_that_is_no_plain_value(tiny, capsys):
    tiny({"00_a": [GOOD]}, "profile = 'quick'\nn = 2**3", {"n": 8})
    assert main(["run"]) == 2
    assert "a parameter's default is no plain value" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("chapters:", "in chapters: None is not of type 'object'"),
        ("chapters: {00_a: 3}", "in chapters/00_a: 3 is not of type 'object'"),
        ("chapters: {00_a: {}}\nrequires: 1", "in requires: 1 is not of type 'array'"),
    ],
)
def test_profile_of_another_shape(tiny, capsys, content, says):
    project = tiny({"00_a": [GOOD]})
    text = f"profile: quick\n{content}\nbenchmark: {json.dumps(BENCHMARK)}\n" + (
        "" if "requires" in content else "requires: []\n"
    )
    (project.root / "profiles" / "quick.yaml").write_text(text)
    assert main(["run"]) == 2
    assert f"quick.yaml: not a valid profile, {says}" in capsys.readouterr().err


def test_third_party_error_on_a_file_is_one_sentence(tiny, capsys):
    project = tiny({"00_a": [GOOD]})
    (project.root / "book").mkdir()
    (project.root / "book" / "index.md").write_text("# Book")
    (project.build / "book").mkdir(parents=True)
    (project.build / "book" / "src").write_text("a file in the way")
    assert main(["book"]) == 2
    assert re.search(r"trpts: .*src.*mend it and run again", capsys.readouterr().err)


def test_one_command_at_a_time(tiny, capsys):
    project = tiny({"00_a": [GOOD]})
    holder = (
        "from trpts_lab.project import Project\nwith Project.find().lock(): print(1, "
        "flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder],
        cwd=project.root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "1\n"
    assert main(["run"]) == 2
    assert "another trpts command is at work" in capsys.readouterr().err
    process.kill()
    process.communicate()
    assert main(["run"]) == 0, "the lock must go with the process that held it"


def test_edit_during_a_refresh_is_not_lost(tiny, capsys):
    """The notebook changes itself while it runs, as an author might."""
    edit = (
        "import nbformat\nnb = nbformat.read('notebooks/00_a.ipynb', 4)\nnb.cells[0].source = '# "
        "Edited'\n"
    )
    project = tiny({"00_a": [edit + "nbformat.write(nb, 'notebooks/00_a.ipynb')"]})
    assert main(["refresh"]) == 1
    assert "00_a: changed while it ran, left as it is" in capsys.readouterr().out
    assert (
        nbformat.read(project.notebooks / "00_a.ipynb", as_version=4).cells[0].source == "# Edited"
    )
