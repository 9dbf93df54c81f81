"""Records are whole or absent, checked when read, packed without loss, and stale for no reason but
the stated ones.
"""

import errno
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from made import CONFIG, PROVENANCE, RECORD, changed

from trpts.errors import TrptsError
from trpts_lab import measured, versions
from trpts_lab import records as room
from trpts_lab import store as store_room
from trpts_lab.experiments import fisher_digits
from trpts_lab.files import write_whole
from trpts_lab.measured import measure, run_once, stale_because
from trpts_lab.project import Project
from trpts_lab.records import flat_metrics, read_single, record_name
from trpts_lab.store import Store


def full(seed, **parts):
    return changed(config__profile="full", config__seed=seed, **parts)


def toy_experiment(accuracy=0.5, data="1" * 16):
    """An experiment that counts its calls, under the name of a real one."""
    calls = []

    def run(config):
        calls.append(config["seed"])
        return {"accuracy": accuracy}

    experiment = SimpleNamespace(__name__=fisher_digits.__name__, run=run, calls=calls)
    experiment.inputs = lambda config: {"data": data, "weights": None}
    return experiment


@pytest.fixture
def store(tmp_path):
    """An empty store of the full profile."""
    return Store(tmp_path / "loose", tmp_path / "packed", "full")


@pytest.fixture
def packed(store):
    """A store with three packed records."""
    for seed in range(3):
        store.add(full(seed))
    assert store.pack() == 3
    return store


def test_round_trip(tmp_path):
    store = Store(tmp_path)
    path = store.add(RECORD)
    assert path.name == record_name(RECORD["config"])
    assert read_single(path) == RECORD == store.find(RECORD["config"])
    assert store.records("toy") == [RECORD]
    assert store.records("other") == []


def test_name_depends_on_the_whole_config():
    names = {
        record_name(RECORD["config"] | change)
        for change in ({}, {"seed": 1}, {"device": "cuda"}, {"task": "u"})
    }
    assert len(names) == 4
    assert record_name(dict(reversed(RECORD["config"].items()))) == record_name(RECORD["config"])


def test_flat_metrics():
    flat = {"accuracy": 0.5, "shares[0]": 0.25, "shares[1]": 0.75, "kinds[a]": 1, "n_things": 3}
    assert flat_metrics(RECORD) == flat


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"config__seed": -1}, r"config\.seed"),
        ({"config__profile": "huge"}, r"config\.profile"),
        ({"config__kind": "../toy"}, r"config\.kind"),
        ({"metrics": {}}, "metrics"),
        ({"metrics__accuracy": "high"}, r"metrics\.accuracy"),
        ({"metrics__accuracy": float("nan")}, "accuracy is nan|the number NaN is not finite"),
        ({"inputs__data": "xyz"}, r"inputs\.data"),
        ({"version": {}}, "version"),
        ({"version": {"toy": 0}}, "version"),
        ({"provenance__commit": "HEAD"}, r"provenance\.commit"),
        (
            {"provenance": {"versions": PROVENANCE["versions"], "machine": PROVENANCE["machine"]}},
            "provenance",
        ),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_refuses_what_does_not_fit(tmp_path, parts, message):
    with pytest.raises(TrptsError, match=message):
        Store(tmp_path).add(changed(**parts))
    assert not list(tmp_path.iterdir())
    path = tmp_path / record_name(RECORD["config"])
    path.write_text(json.dumps(changed(**parts)))
    with pytest.raises(TrptsError, match=message):
        read_single(path)


def test_refuses_truncated_edited_or_misplaced(tmp_path):
    path = Store(tmp_path).add(RECORD)
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(TrptsError, match=r"toy-.*not a readable record"):
        read_single(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrptsError, match="not a readable record"):
        read_single(path)
    path.write_text(json.dumps(changed(config__seed=7)))
    with pytest.raises(TrptsError, match="edited or misplaced"):
        read_single(path)


def test_packing_moves_every_record_into_sorted_lines(packed):
    assert packed.single_files() == []
    assert [r["config"]["seed"] for r in packed.records("toy")] == [0, 1, 2]
    assert packed.records("toy")[0] == full(0)
    lines = (packed.packed / "toy.jsonl").read_text().splitlines()
    assert [json.loads(line)["config"]["seed"] for line in lines] == [0, 1, 2]
    # three records share it
    assert len(json.loads((packed.packed / "provenance.json").read_text())) == 1
    before = (packed.packed / "toy.jsonl").read_bytes()
    packed.add(full(1, metrics__accuracy=0.75))  # made anew: it takes the place of the old one
    assert packed.find(full(1)["config"])["metrics"]["accuracy"] == 0.75
    assert packed.pack() == 1
    after = (packed.packed / "toy.jsonl").read_bytes().splitlines()
    assert [a == b for a, b in zip(before.splitlines(), after, strict=True)] == [True, False, True]
    assert packed.pack() == 0


def test_profiles_share_a_file_and_do_not_mix(packed, tmp_path):
    paper = Store(tmp_path / "loose of paper", packed.packed, "paper")
    paper.add(changed(config__profile="paper"))
    paper.pack()
    assert len(paper.records()) == 1
    assert len(packed.records()) == 3
    assert len((packed.packed / "toy.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda lines: [*lines[:2], lines[2][:50]], r"toy\.jsonl, line 3: not a readable record"),
        (lambda lines: ["[]", *lines], r"toy\.jsonl, line 1: not a readable record"),
        (
            lambda lines: [*lines, lines[0]],
            r"toy\.jsonl: lines 1 and 4 are of the same run: expected one record for each",
        ),
        (
            lambda lines: [lines[0].replace('"provenance": "', '"provenance": "f'), *lines[1:]],
            r"line 1: its provenance 'f[0-9a-f]{16}' is not in provenance\.json",
        ),
        (
            lambda lines: [lines[0].replace('"kind": "toy"', '"kind": "joy"')],
            "line 1: a record of joy does not belong",
        ),
        (
            lambda lines: [lines[0].replace("0.5", "NaN")],
            "line 1: not a readable record: the number NaN is not finite",
        ),
        (
            lambda lines: [lines[0].replace('toy": 1', 'toy": "1"')],
            r"line 1: not a valid record: version",
        ),
    ],
)
def test_a_spoiled_file_is_one_sentence(packed, spoil, said):
    path = packed.packed / "toy.jsonl"
    path.write_text("\n".join(spoil(path.read_text().splitlines())) + "\n")
    with pytest.raises(TrptsError, match=said):
        packed.records()
    packed.add(full(9))
    spoiled = path.read_bytes()
    with pytest.raises(TrptsError, match=said):  # packing on top would lose what the file held
        packed.pack()
    assert path.read_bytes() == spoiled
    assert len(packed.single_files()) == 1


def test_an_edited_or_missing_provenance_is_one_sentence(packed):
    path = packed.packed / "provenance.json"
    text = path.read_text()
    path.write_text(text.replace('"cores": 2', '"cores": 64'))
    with pytest.raises(
        TrptsError, match=r"provenance\.json: the entry [0-9a-f]{16} hashes to .*it was edited"
    ):
        packed.records()
    path.write_text("{")
    with pytest.raises(TrptsError, match=r"provenance\.json: not readable"):
        packed.records()
    path.unlink()
    with pytest.raises(TrptsError, match=r"provenance\.json is not there"):
        packed.records()


def test_one_broken_single_record_keeps_no_other_from_being_packed(store):
    store.add(full(0))
    path = store.add(full(1))
    path.write_text("half a rec")
    with pytest.raises(
        TrptsError,
        match=r"not a readable record.*remove the file to measure again \(1 not packed\)",
    ):
        store.pack()
    assert [p.name for p in store.single_files()] == [path.name]
    assert store.find(full(0)["config"]) == full(0)


def test_a_full_disk_while_packing_loses_nothing(packed, monkeypatch):
    for seed in (3, 4):
        packed.add(full(seed))
    before = {path.name: path.read_bytes() for path in packed.packed.iterdir()}

    def full_disk(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(
        TrptsError, match=r"the disk is full; .* the new records stay in .*then `trpts pack`"
    ):
        packed.pack()
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in packed.packed.iterdir()} == before
    assert len(packed.records()) == 5
    assert packed.pack() == 2


@pytest.mark.parametrize("n_writes", [0, 1, 2])
def test_packing_that_is_interrupted_loses_nothing(packed, monkeypatch, n_writes):
    """Before any file, after provenance, after the records: every run is there, and packing again
    ends the same.
    """
    for seed in (3, 4):
        packed.add(full(seed, provenance__commit="b" * 40))
    written, write, unlink = [], write_whole, room.Path.unlink

    def interrupted(path, text):
        if len(written) == n_writes:
            raise KeyboardInterrupt
        written.append(path)
        write(path, text)

    monkeypatch.setattr(store_room, "write_whole", interrupted)
    if n_writes == 2:
        monkeypatch.setattr(
            room.Path, "unlink", lambda path, **_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
    with pytest.raises(KeyboardInterrupt):
        packed.pack()
    monkeypatch.undo()
    assert unlink is room.Path.unlink
    assert sorted(r["config"]["seed"] for r in packed.records()) == [0, 1, 2, 3, 4]
    assert packed.pack() == 2
    assert sorted(r["config"]["seed"] for r in packed.records()) == [0, 1, 2, 3, 4]


def test_an_older_version_never_takes_the_place_of_a_newer(packed):
    """As after a pull, when single records of the old version are still in build/."""
    packed.add(full(0, version={"experiment toy": 2}, metrics__accuracy=0.9))
    packed.pack()
    packed.add(full(0, version={"experiment toy": 1}))
    assert packed.find(full(0)["config"])["metrics"]["accuracy"] == 0.9
    assert packed.records()[0]["metrics"]["accuracy"] == 0.9
    packed.pack()
    assert packed.records()[0]["version"] == {"experiment toy": 2}


def test_packing_changes_no_digest(packed):
    """What a chapter has read is the same, wherever it lay."""
    packed.add(full(5))
    before = packed.digest("toy"), packed.digest()
    packed.pack()
    assert (packed.digest("toy"), packed.digest()) == before
    packed.add(full(6))
    assert packed.digest("toy") != before[0]


def test_what_a_record_was_made_with_is_noted_before_its_run(monkeypatch):
    """A version that rises during hours of a run does not become the version of what it
    measured.
    """
    experiment = toy_experiment()
    experiment.run = lambda config: (
        monkeypatch.setitem(versions.RAISED, "score fisher", 7) or {"accuracy": 0.5}
    )
    assert measure(experiment, CONFIG)["version"]["score fisher"] == 1


def test_what_a_killed_packer_left_is_removed(packed):
    leftover = packed.packed / ".toy.jsonl.abc.partial"
    leftover.mkdir()
    (leftover / "toy.jsonl").write_text("half")
    packed.add(full(7))
    assert packed.pack() == 1
    assert sorted(path.name for path in packed.packed.iterdir()) == ["provenance.json", "toy.jsonl"]


WRITE_AND_PACK = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from made import changed
from trpts_lab.store import Store
folder, first, profile = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
store = Store(folder / profile, folder / "packed", profile)
print("ready", flush=True)
sys.stdin.readline()
for seed in range(first, first + 12):
    commit = f"{seed % 16:x}" * 40
    store.add(changed(config__profile=profile, config__seed=seed, provenance__commit=commit))
    if seed % 3 == 0:
        store.pack()
store.pack()
"""


@pytest.mark.parametrize("profiles", [("full", "full"), ("full", "paper")])
def test_two_packers_at_once_lose_nothing(project, tmp_path, profiles):
    """Two processes write and pack in turn, as sweeps in one checkout do; a reader misses no record
    for a moment.
    """
    both = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE_AND_PACK, tmp_path, str(12 * n), profile],
            cwd=project.root,
            stdin=-1,
            stdout=-1,
            text=True,
        )
        for n, profile in enumerate(profiles)
    ]
    for process in both:
        process.stdout.readline()
    for process in both:  # when both are ready
        process.stdin.write("\n")
        process.stdin.flush()
    stores = [
        Store(tmp_path / profile, tmp_path / "packed", profile)
        for profile in dict.fromkeys(profiles)
    ]
    seen = 0
    while any(process.poll() is None for process in both):
        n = sum(len(store.records()) for store in stores)
        assert n >= seen, "a record was gone for a moment"
        seen = n
        time.sleep(0.005)
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(r["config"]["seed"] for store in stores for r in store.records()) == list(
        range(24)
    )
    assert all(store.single_files() == [] for store in stores)
    assert len((tmp_path / "packed" / "toy.jsonl").read_text().splitlines()) == 24


def test_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    store = Store(tmp_path)
    path = store.add(RECORD)
    before = path.read_text()

    def full_disk(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(TrptsError, match="the disk is full; nothing of it was left behind"):
        store.add(changed(time_s=2))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == before


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_write_that_breaks_off_leaves_nothing_behind(tmp_path):
    """A real short write: the process may write no file beyond 64 bytes."""
    program = (
        "import resource, signal, pathlib, sys; from trpts_lab.files import write_whole\nfrom "
        "trpts.errors import TrptsError\nsignal.signal(signal.SIGXFSZ, "
        "signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))\ntry: "
        "write_whole(pathlib.Path(sys.argv[1]) / 'r.json', 'x' * 1000)\nexcept TrptsError as "
        "error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
    assert "nothing of it was left behind" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())


def test_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "r.json", "text")
    assert not list(tmp_path.iterdir())


def test_run_once_runs_once(tmp_path):
    experiment, store = toy_experiment(), Store(tmp_path)
    first = run_once(experiment, CONFIG, store)
    assert run_once(experiment, CONFIG, store) == first
    run_once(experiment, CONFIG | {"seed": 1}, store)
    assert experiment.calls == [0, 1]
    assert first["config"]["kind"] == "fisher_digits"
    assert first["version"] == {
        "experiment fisher_digits": 1,
        "score fisher": 1,
        "score fisher_batch": 1,
    }
    assert len(store.records()) == 2


def test_a_new_version_or_other_data_makes_a_record_stale(tmp_path, monkeypatch):
    experiment, store = toy_experiment(), Store(tmp_path)
    record = run_once(experiment, CONFIG, store)
    assert stale_because(record, experiment.inputs) is None
    assert stale_because(record, toy_experiment(data="2" * 16).inputs) == "other data"
    monkeypatch.setitem(versions.RAISED, "method lora", 2)  # another family's
    assert stale_because(record, experiment.inputs) is None
    monkeypatch.setitem(versions.RAISED, "score fisher", 2)
    assert stale_because(record, experiment.inputs) == "version of score fisher"
    again = run_once(experiment, CONFIG, store)
    assert again["version"]["score fisher"] == 2
    assert experiment.calls == [0, 0]
    monkeypatch.setitem(versions.RAISED, "score fisher", 1)
    with pytest.raises(
        TrptsError, match=r"made with version 2 of score fisher, here it has version 1: update"
    ):
        stale_because(again, experiment.inputs)


def test_versions_are_of_the_experiment_and_of_what_a_run_uses():
    def families(kind, method, variant="v", **others):
        return set(
            versions.version_of(
                CONFIG | {"kind": kind, "method": method, "variant": variant, **others}
            )
        )

    assert families("tuned", "lora", options={"r": 2}) == {"experiment tuned", "method lora"}
    assert families("tuned", "trpts", options={}) == {
        "experiment tuned",
        "method trpts",
        "score fisher",
    }
    assert families("tuned", "trpts", options={"score": "gps"}) == {
        "experiment tuned",
        "method trpts",
        "score gps",
    }
    assert families("tuned", "random", options={}) == {
        "experiment tuned",
        "method random",
        "score random",
    }
    assert families("remedy", "trpts", score="fisher_drawn", options={}) == {
        "experiment remedy",
        "method trpts",
        "score fisher_drawn",
    }
    assert families("concentration", "trpts", "magnitude") == {
        "experiment concentration",
        "score magnitude",
    }
    assert families("text", "trpts", "C = 2, random") == {
        "experiment text",
        "method trpts",
        "score random",
    }
    assert families("pruning", "transprune", schedule={"score": "fastv"}) == {
        "experiment pruning",
        "criterion fastv",
    }
    assert families("pruning", "transprune", schedule=None) == {"experiment pruning"}
    assert families("subtle", "transprune", "random, High") == {
        "experiment subtle",
        "criterion random",
    }
    with pytest.raises(TrptsError, match="there is no experiment 'luck'"):
        families("luck", "m")


def test_every_experiment_has_a_version():
    kinds = [path.stem for path in versions.EXPERIMENTS.glob("[a-z]*.py")]
    assert len(kinds) >= 12
    assert all(versions.experiment_version(kind) >= 1 for kind in kinds)


def test_a_record_says_where_it_was_made(project, monkeypatch):
    monkeypatch.chdir(project.root)
    measured.provenance.cache_clear()  # of a test run during which somebody commits
    made = measure(toy_experiment(), CONFIG)["provenance"]
    assert {
        "torch",
        "torchvision",
        "timm",
        "numpy",
        "scipy",
        "scikit-learn",
        "peft",
        "transformers",
        "tokenizers",
        "python",
    } <= made["versions"].keys()
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=project.root, capture_output=True, text=True
    )
    assert made["commit"] == (head.stdout.strip() or None)


def test_a_checkout_is_dirty_by_its_code_alone(tmp_path):
    from trpts_lab.provenance import commit_of

    assert commit_of(tmp_path) == {"commit": None, "dirty": None}
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    (tmp_path / "trpts").mkdir()
    (tmp_path / "trpts" / "a.py").write_text("x = 1\n")
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert commit_of(tmp_path)["dirty"] is False
    (tmp_path / "results.jsonl").write_text("{}")
    assert commit_of(tmp_path)["dirty"] is False
    (tmp_path / "trpts" / "b.py").write_text("y = 1\n")
    assert commit_of(tmp_path)["dirty"] is True


def test_failing_experiment_leaves_no_record(tmp_path):
    with pytest.raises(TrptsError, match="accuracy is inf"):
        run_once(toy_experiment(accuracy=float("inf")), CONFIG, Store(tmp_path))
    assert not list(tmp_path.iterdir())


def test_unreadable_quick_record_is_measured_again_and_another_is_not(store, tmp_path):
    experiment, quick = toy_experiment(), Store(tmp_path)
    (tmp_path / record_name({"kind": "fisher_digits", **CONFIG})).write_text("half a rec")
    assert run_once(experiment, CONFIG, quick)["metrics"] == {"accuracy": 0.5}
    config = CONFIG | {"profile": "full"}
    path = store.loose / record_name({"kind": "fisher_digits", **config})
    path.parent.mkdir()
    path.write_text("half a rec")
    with pytest.raises(TrptsError, match="not a readable record"):
        run_once(experiment, config, store)


def test_record_whose_weights_are_elsewhere_is_stale(tmp_path):
    experiment = toy_experiment()
    record = run_once(experiment, CONFIG, Store(tmp_path))

    def gone(config):
        raise FileNotFoundError

    assert stale_because(record, gone) == "data or weights are not here"


def test_the_committed_files_are_as_packing_writes_them(project):
    """Sorted, one record a line, small; every provenance is used."""
    files = project.store("full").files()
    assert len(files) >= 12
    made = set()
    for path in files:
        records = room.read_file(path).values()
        assert path.read_text(encoding="utf-8") == room.lines_of(records), path.name
        made |= {room.id_of(record["provenance"]) for record in records}
    assert made == room.read_provenance(project.committed / room.PROVENANCE).keys()
    everything = list(project.committed.iterdir())
    assert len(everything) <= 30
    assert sum(path.stat().st_size for path in everything) <= 3e6


def test_the_command_packs(tmp_path, project, monkeypatch, capsys):
    from trpts.cli import main

    for name in ("notebooks", "profiles"):
        (tmp_path / name).symlink_to(project.root / name)
    monkeypatch.chdir(tmp_path)
    Project(tmp_path).store("full").add(full(0))
    assert main(["pack"]) == 0
    assert "1 records packed into" in capsys.readouterr().out
    assert Project(tmp_path).store("full").records() == [full(0)]
    assert main(["pack", "--profile", "quick"]) == 2
    assert (
        "its records are never committed: expected full, real or paper" in capsys.readouterr().err
    )
