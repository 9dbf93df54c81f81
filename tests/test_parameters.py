"""Parameters of chapters: YAML 1.2, each of its default's kind, refused before anything runs."""

import pytest
import yaml

from trpts.cli import main
from trpts_lab.book import runner
from trpts_lab.book.chapters import find_chapters
from trpts_lab.profiles import load_profile
from trpts_lab.yaml12 import parse_yaml

CELL = """profile = 'quick'
lr = 0.1
n = 1
seeds = [0]
tasks = None
rates = {'a': 0.1}
name = 'x'
flag = True
rate = 0.5  # None: as chosen"""
SETTINGS = {"lr": 0.1, "n": 1, "seeds": [0], "tasks": None, "rates": {"a": 0.1}, "name": "x"}
SETTINGS |= {"flag": True, "rate": 0.5}


@pytest.fixture
def ran(tiny, monkeypatch):
    """A project of one chapter, and what its runs were given; no kernel is started."""
    tiny({"00_a": ["1"]}, CELL, SETTINGS)
    given = []
    monkeypatch.setattr(runner, "run_chapter", lambda chapter, settings, *_: given.append(settings))
    return given


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("lr=1e-2", 0.01),
        ("lr=.5", 0.5),
        ("lr=+5.", 5.0),
        ("lr=3", 3.0),
        ("lr=1E2", 100.0),
        ("n=010", 10),
        ("n=0o10", 8),
        ("n=0x10", 16),
        ("n=-3", -3),
        ("seeds=[3, 1]", [3, 1]),
        ("rates={b: 1, c: 1e-3}", {"b": 1.0, "c": 0.001}),
        ("name=yes", "yes"),
        ("name=1:30", "1:30"),
        ("name=2020-01-01", "2020-01-01"),
        ("name='5'", "5"),
        ("name=!!str 5", "5"),
        ("name=score: random", None),
        ("flag=false", False),
        ("rate=null", None),
        ("tasks=[digits, dtd_twin]", ["digits", "dtd_twin"]),
        ("tasks=null", None),
    ],
)
def test_values_as_yaml_1_2_reads_them(ran, capsys, parameter, value):
    if parameter == "name=score: random":  # a table; in quotes it is a text
        assert main(["run", "--only", "00", "-p", parameter]) == 2
        assert "{'score': 'random'}: expected a text" in capsys.readouterr().err
        return
    assert main(["run", "--only", "00", "-p", parameter]) == 0
    (settings,) = ran
    found = settings[parameter.partition("=")[0]]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        ("lr=high", "lr of 00_a: 'high': expected a finite number"),
        ("lr=.nan", "nan: expected a finite number"),
        ("lr=.inf", "inf: expected a finite number"),
        ("lr=1e999", "inf: expected a finite number"),
        ("lr=null", "None: expected a finite number"),
        ("lr=", "None: expected a finite number"),
        ("lr=true", "True: expected a finite number"),
        ("lr='0.1'", "'0.1': expected a finite number"),
        ("lr=1_0", "'1_0': expected a finite number"),
        ("lr=[0.1]", "[0.1]: expected a finite number"),
        ("n=1e3", "1000.0: expected a whole number"),
        ("n=2020-01-01", "'2020-01-01': expected a whole number"),
        ("n=99999999999999999999", "99999999999999999999: expected a whole number of at most 64"),
        ("n=yes", "'yes': expected a whole number"),
        ("n=&a [*a]", "n: '&a [*a]' is not readable: it refers to a part of itself"),
        ("n=*a", "it refers to a part of itself"),
        ("n=" + "[" * 3000, "it is longer than 2000 characters"),
        ("n=" + "[" * 900 + "]" * 900, "it is nested too deeply"),
        ("seeds=0", "0: expected a list"),
        ("seeds=[0, 1, 0]", "0 stands there twice"),
        ("seeds=[]", "it is empty: expected at least one"),
        ("seeds=[0.5]", "0.5: expected a whole number"),
        ("seeds=[true]", "True: expected a whole number"),
        ("seeds=[[1]]", "[1]: expected a whole number"),
        ("rates=[1]", "[1]: expected a table"),
        ("rates={a: fast}", "'fast': expected a finite number"),
        ("rates={a: 1, a: 2}", "the key a stands twice"),
        ("rates={1: 2}", "a key is no text"),
        ("rates={[1]: 2}", "a key is no text"),
        ("rates={a: {b: 1}}", "{'b': 1}: expected a finite number"),
        ("name=5", "5: expected a text, in quotes"),
        ("name=null", "None: expected a text"),
        ('name="\\ud800"', "expected a text"),
        ("name=!!binary aGk=", "could not determine a constructor for the tag"),
        ("name=!!python/object:os.system x", "could not determine a constructor for the tag"),
        ("name=\0", "unacceptable character"),
        ("name=@x", "found character '@' that cannot start any token"),
        ("name=--- a\n--- b", "another document"),
        ("flag=1", "1: expected true or false"),
        ("flag=!!bool maybe", "a tag stands before what is none of its kind"),
        ("lr=!!float ''", "a tag stands before what is none of its kind"),
        ("n=!!int x", "invalid literal"),
        ("tasks=[1, null]", "None: expected a number or a text"),
    ],
)
def test_another_kind_is_one_sentence(ran, capsys, parameter, says):
    assert main(["run", "--only", "00", "-p", parameter]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("trpts: ")
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert not ran + captured.out.splitlines()


def test_a_profile_is_held_against_the_defaults_too(tiny, capsys):
    tiny({"00_a": ["1"]}, CELL, SETTINGS | {"n": "many"})
    assert main(["run"]) == 2
    assert "the parameter n of 00_a: 'many': expected a whole number" in capsys.readouterr().err


def test_committed_profiles_reach_the_chapters_as_they_are_written(project):
    for name in ("quick", "full", "paper"):
        profile = load_profile(project, name)
        for chapter in find_chapters(project):
            assert chapter.settings(profile) == {
                "profile": name,
                **profile["chapters"][chapter.name],
            }


def test_profiles_say_the_same_in_both_versions_of_yaml(project):
    for path in (project.root / "profiles").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert parse_yaml(text) == yaml.safe_load(text)
