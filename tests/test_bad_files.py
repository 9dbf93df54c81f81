"""The laboratory's own files, spoiled in every way: one sentence that names the file, each time."""

import json
import os

import pytest
from made import RECORD, changed

from trpts.errors import TrptsError
from trpts_lab.bench.files import read_bench
from trpts_lab.book.chapters import copy_state, find_chapters
from trpts_lab.book.launch import repository
from trpts_lab.book.pdf import pages_in_order
from trpts_lab.book.status import read_inputs
from trpts_lab.claims.ledger import check_ledger
from trpts_lab.profiles import load_profile
from trpts_lab.records import id_of, lines_of, read_file, read_provenance, read_single, record_name
from trpts_lab.regress import read_baselines

RECORDS, SINGLE = "data/results/toy.jsonl", record_name(RECORD["config"])
READERS = {  # path: how it is read
    "profiles/quick.yaml": lambda project, path: load_profile(project, "quick"),
    "data/results/provenance.json": lambda project, path: read_provenance(path),
    RECORDS: lambda project, path: read_file(path),
    SINGLE: lambda project, path: read_single(path),
    "data/baselines/00_a.json": lambda project, path: read_baselines(path),
    "data/baselines/inputs.json": lambda project, path: read_inputs(project),
    "data/ledger.json": lambda project, path: check_ledger(project, []),
    "data/bench/tokens.json": lambda project, path: read_bench(project, "tokens"),
    "CITATION.cff": lambda project, path: repository(project),
    "book/_toc.yml": lambda project, path: pages_in_order(path),
    "notebooks/00_a.ipynb": lambda project, path: find_chapters(project)[0].parameters,
}
# a pipe in these places counts as no file at all
SAID_OTHERWISE = {"CITATION.cff", "data/results/provenance.json"}
SPOILED = {
    "other bytes": b"\xff\xfe\x00",
    "Latin letters": b'{"a": "\xe9"}',
    "a list": b"[]",
    "a number": b"3",
    "a text": b'"text"',
    "null": b"null",
    "cut short": b'{"a": [',
    "deep": b"[" * 3000,
    "a list of nothing": b"[null]",
}


@pytest.fixture
def checkout(tiny):
    """A small project with records, so that only the spoiled file is at fault."""
    project = tiny({"00_a": ["1"]})
    results = project.committed
    results.mkdir(parents=True)
    made = {id_of(RECORD["provenance"]): RECORD["provenance"]}
    (results / "provenance.json").write_text(json.dumps(made))
    (results / "toy.jsonl").write_text(lines_of([RECORD]))
    return project


def sentence(project, name):
    """What reading says, which is one sentence."""
    with pytest.raises(TrptsError) as refused:
        READERS[name](project, project.root / name)
    said = str(refused.value)
    assert name.rsplit("/", 1)[-1] in said
    assert "\n" not in said
    return said


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize("name", READERS)
def test_another_content(checkout, name, how):
    path = checkout.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(SPOILED[how])
    sentence(checkout, name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
@pytest.mark.parametrize("name", sorted(READERS.keys() - SAID_OTHERWISE))
def test_a_pipe_is_not_waited_for(checkout, name):
    path = checkout.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert "no regular file" in sentence(checkout, name)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (SINGLE, changed(time_s=10**30), "needs more than 64 bits"),
        (SINGLE, changed(time_s=float("nan")), "NaN is not finite"),
        (SINGLE, changed(metrics__accuracy=float("inf")), "Infinity is not finite"),
        (SINGLE, changed(metrics=[0.5]), "metrics"),
        (SINGLE, changed(config=None), "config"),
        ("data/baselines/00_a.json", {"baselines": []}, "in baselines: [] is not of type"),
        ("data/baselines/00_a.json", {"baselines": {"a": 3}}, "in baselines/a: 3 is not"),
        ("data/baselines/00_a.json", {"baselines": {"a": {"metrics": {}}}}, "'config' is a req"),
        ("data/ledger.json", {"verdicts": {}}, "'results' is a required property"),
        ("data/ledger.json", {"verdicts": [], "results": {}}, "in verdicts, [] is not of type"),
        ("data/ledger.json", {"verdicts": {}, "results": 3}, "in results, 3 is not of type"),
        ("data/baselines/inputs.json", {"a": 3}, "in a, 3 is not of type 'string'"),
        ("data/bench/tokens.json", {"rows": {"full": {}}}, "in rows/full, 's' is a required"),
        ("data/bench/tokens.json", {"rows": {"full": {"s": []}}}, "in rows/full/s, [] should be"),
        ("data/bench/tokens.json", {"rows": [1]}, "in rows, [1] is not of type 'object'"),
        ("CITATION.cff", {"repository-code": 3}, "repository-code 3: expected https://github"),
        ("book/_toc.yml", {"root": "index"}, "'parts'"),
    ],
)
def test_json_of_another_shape(checkout, name, content, says):
    path = checkout.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    assert says in sentence(checkout, name)


@pytest.mark.parametrize("made", [3, [], {"key": 3}, {"key": [1]}, {}, None, "text"])
def test_an_executed_copy_that_says_something_else_is_run_again(tiny, made):
    project = tiny({"00_a": ["1"]})
    (chapter,) = find_chapters(project)
    runs = project.runs("quick")
    runs.mkdir(parents=True)
    copy = json.loads(chapter.path.read_text())
    copy["metadata"]["trpts"] = made
    (runs / "00_a.ipynb").write_text(json.dumps(copy))
    settings = chapter.settings(load_profile(project, "quick"))
    assert copy_state(chapter, settings, runs) == "other code"
