"""Profiles: what they require, what a benchmark runs on, and the papers' own experiment."""

import copy
import re
import shutil

import pytest
import yaml
from PIL import Image
from safetensors.torch import save_file

from trpts.backbones import create_backbone
from trpts.cli import main
from trpts.data import fgvc, vtab
from trpts_lab import paper
from trpts_lab.named_tasks import FILES
from trpts_lab.profiles import load_profile
from trpts_lab.twins import TWINS

GOOD = "print('fine')"
NEED = {
    "what": "weights",
    "size_mb": 410,
    "source": "`hf download x`",
    "path": "data/w.bin",
    "how": "as it is",
}


def change(project, name, **parts):
    """Replace parts of a small project's profile."""
    path = project.root / "profiles" / f"{name}.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | parts))


@pytest.fixture
def paper_copy(tiny, project):
    """A small project with the real paper profile and a chapter of its name."""
    wanted = load_profile(project, "paper")
    lines = [f"{name} = None" for name in wanted["chapters"]["01_fim"]]
    small = tiny({"01_fim": [GOOD]}, "\n".join(["profile = 'quick'", *lines]))
    shutil.copy(project.root / "profiles" / "paper.yaml", small.root / "profiles")
    return small


def numbered(text):
    """The list's entries, {what: [its other lines]}; wrapped lines are joined."""
    found = {}
    for line in re.sub(r"\n {11}", " ", text).splitlines()[1:]:
        if line[2].isdigit():
            found[line.split(". ", 1)[1]] = others = []
        else:
            others.append(line.strip())
    return found


# what is missing


def test_paper_profile_without_files_says_what_to_download(paper_copy, capsys):
    assert main(["run", "--profile", "paper"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(
        "trpts: profile 'paper' needs files that are not here, about 19.2 GB to download:\n"
    )
    assert "Traceback" not in captured.err
    assert not captured.out
    entries = numbered(captured.err)
    assert len(entries) == 8
    for what, lines in entries.items():
        assert any(unit in what for unit in (" MB", " GB")), "how much it is"
        assert [line.split()[0] for line in lines] == ["get", "put"]
    (all_of_vtab,) = (what for what in entries if what.startswith("VTAB-1k"))
    assert all_of_vtab.endswith(
        "19 of 19 missing: " + ", ".join(f"vtab/{name}" for name in vtab.TASKS)
    )
    assert max(map(len, captured.err.splitlines())) <= 120


def test_only_what_is_missing_is_listed(paper_copy, capsys):
    """All of VTAB-1k but two data sets, one of them without its lists; birds without splits,
    flowers without images.
    """
    root = paper_copy.root / "data/paper"
    for name, source in vtab.TASKS.items():
        if name != "kitti":
            folder = root / "vtab-1k" / (source.aliases or (name,))[0]
            (folder / "images").mkdir(parents=True)
            for stem in () if name == "dtd" else ("train800", "val200", "test"):
                (folder / f"{stem}.txt").touch()
    for name, source in fgvc.TASKS.items():
        folder = root / "fgvc" / source.aliases[0]
        folder.mkdir(parents=True)
        if name != "flowers":
            (folder / "images").mkdir()
        for split in () if name == "cub" else fgvc.SPLITS:
            (folder / f"{split}.json").touch()
    (root / "vit_base_patch16_224.augreg_in21k.safetensors").touch()
    assert main(["run", "--profile", "paper"]) == 2
    entries = list(numbered(capsys.readouterr().err))
    assert len(entries) == 3
    assert entries[0].endswith("4.7 GB: 2 of 19 missing: vtab/dtd, vtab/kitti")
    assert entries[1].endswith("4 MB: 1 of 5 missing: fgvc/cub")
    assert entries[2] == "FGVC, Oxford Flowers 102, 345 MB"


def test_with_everything_there_it_runs(tiny, capsys):
    project = tiny({"00_a": [GOOD]})
    (project.root / "data").mkdir()
    (project.root / "data/w.bin").touch()
    change(project, "paper", requires=[NEED])
    assert main(["run", "--profile", "paper"]) == 0


def test_a_chapter_alone_needs_what_its_parameters_name(tiny, capsys):
    project = tiny(
        {"00_a": [GOOD], "01_b": [GOOD]}, "profile = 'quick'\nplace = ''", {"place": "x"}
    )
    second = NEED | {"what": "images", "path": "data/images/x", "size_mb": None}
    change(
        project,
        "paper",
        requires=[NEED, second],
        chapters={"00_a": {"place": "other"}, "01_b": {"place": "data"}},
    )
    assert main(["run", "--profile", "paper", "--only", "00"]) == 0
    for only, parameter, named in (
        ("01", [], ["weights", "images"]),
        ("00", ["-p", "place=data/images"], ["images"]),
        ("00", ["-p", "place=data/w.bin"], ["weights"]),
    ):
        capsys.readouterr()
        assert main(["run", "--profile", "paper", "--only", only, *parameter]) == 2
        err = capsys.readouterr().err
        assert [what.split(",")[0] for what in numbered(err)] == named
        assert ("more than" in err) == ("images, size unknown" in err) == ("images" in named)
    assert main(["run", "--profile", "paper"]) == 2


# what is read


def test_the_papers_own_experiment(project):
    bench = load_profile(project, "paper")["benchmark"]
    assert bench["backbone"] == "vit_base_patch16_224.augreg_in21k"
    assert bench["tasks"] == [f"vtab/{n}" for n in vtab.TASKS] + [f"fgvc/{n}" for n in fgvc.TASKS]
    assert bench["reading"] == {"image_size": 224, "normalization": "half", "resize": "crop"}
    assert list(paper.GPS_SETTINGS) == bench["tasks"]
    assert bench["settings"] == "GPS_SETTINGS"
    camelyon = {
        "batch_size": 32,
        "lr": 0.004,
        "drop_path": 0.0,
        "connections": 2,
        "ema_decay": None,
    }
    assert paper.GPS_SETTINGS["vtab/patch_camelyon"] == camelyon


def test_other_profiles_run_on_tasks_that_exist(project):
    for name in ("quick", "full"):
        profile = load_profile(project, name)
        tasks = profile["benchmark"]["tasks"]
        assert set(tasks) <= {"digits", *TWINS}
        assert profile["benchmark"]["settings"] is None
    assert set(TWINS) < set(tasks), "the full profile takes all twins"


def test_requirements_of_the_paper_profile_cover_the_benchmark(project):
    """Each of the 24 is covered by an entry, and entries of one data set name a folder that its
    reader accepts.
    """
    profile = load_profile(project, "paper")
    paths = {
        need["tasks"]: need["path"].rsplit("/", 1)
        for need in profile["requires"]
        if "tasks" in need
    }
    assert {"vtab/*", "fgvc/*"} <= set(paths)
    for name, source in fgvc.TASKS.items():
        assert paths[f"fgvc/{name}"] in [
            ["data/paper/fgvc", folder] for folder in (name, *source.aliases)
        ]
    weights = [need["path"] for need in profile["requires"] if "tasks" not in need]
    assert weights == [profile["benchmark"]["weights"]]
    assert all(task in FILES for task in profile["benchmark"]["tasks"])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"benchmark": {}}, "in benchmark: 'backbone' is a required property"),
        ({"benchmark": None}, "in benchmark: None is not of type 'object'"),
        ({"sweep": {"epochs": 1}}, "in benchmark/sweep: 'tuning_tasks' is a required property"),
        (
            {
                "sweep": {
                    "tuning_tasks": [],
                    "compared_tasks": ["mnist"],
                    "epochs": 1,
                    "batch_size": 8,
                    "rates": {"few": [], "all": []},
                }
            },
            "compared_tasks has 'mnist': expected some of the benchmark's tasks",
        ),
        ({"settings": "DREAMS"}, "trpts_lab.paper.DREAMS has no settings for digits"),
        ({"settings": "GPS_SETTINGS"}, "trpts_lab.paper.GPS_SETTINGS has no settings for digits"),
        ({"requires": [{"path": "x"}]}, "in requires/0: 'what' is a required property"),
        ({"requires": [NEED | {"tasks": "vtab/*"}]}, "'files' is a dependency of 'tasks'"),
        (
            {"surplus": 1},
            "in all: Additional properties are not allowed ('surplus' was unexpected)",
        ),
    ],
)
def test_profile_of_another_shape(tiny, capsys, parts, message):
    project = tiny({"00_a": [GOOD]})
    if parts.keys() & {"settings", "sweep"}:
        bench = load_profile(project, "quick")["benchmark"]
        parts = {"benchmark": bench | parts}
    change(project, "quick", **copy.deepcopy(parts))
    assert main(["run"]) == 2
    err = capsys.readouterr().err
    assert "quick.yaml: " in err
    assert message in err
    assert err.count("\n") == 1


# trpts check


def test_check_reads_every_image(tiny, capsys, monkeypatch):
    project = tiny({"00_a": [GOOD]})
    monkeypatch.setattr(vtab, "COUNTS", {})
    root = project.root / "data/vtab-1k"
    for name in ("dtd", "kitti"):
        for i, stem in enumerate(("train800", "val200", "test")):
            (root / name / "images").mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (i, 0, 0)).save(root / name / f"images/{stem}.png")
            (root / name / f"{stem}.txt").write_text(f"images/{stem}.png 0\n")
    weights = create_backbone("vit_small_digits", 3, seed=1)
    save_file(weights.state_dict(), project.root / "data/w.safetensors")
    bench = load_profile(project, "quick")["benchmark"]
    bench |= {"weights": "data/w.safetensors", "tasks": ["digits", "vtab/dtd", "vtab/kitti"]}
    change(project, "quick", benchmark=bench | {"reading": {}})
    bench |= {"tasks": ["vtab/dtd", "vtab/kitti"], "reading": {"image_size": 8}}
    change(project, "paper", benchmark=bench)
    assert main(["check"]) == 0
    assert main(["check", "--profile", "paper"]) == 0
    *_, one, two, last = capsys.readouterr().out.splitlines()
    assert one.startswith("vtab/dtd: 1 + 1 + 1 images, data ")
    assert last == "0 of 3 failed"

    (root / "dtd/images/test.png").write_bytes(b"text")  # seen only by who opens it
    (root / "kitti/images/val200.png").unlink()
    (project.root / "data/w.safetensors").unlink()
    assert main(["check", "--profile", "paper"]) == 1
    weights, one, two, last = capsys.readouterr().out.splitlines()
    assert weights.startswith("vit_small_digits: FAILED: weights file ")
    assert "vtab/dtd: FAILED: " in one
    assert "test.txt:1: " in one
    assert "is not an image" in one
    assert "vtab/kitti: FAILED: " in two
    assert "val200.png does not exist" in two
    assert last == "3 of 3 failed"
