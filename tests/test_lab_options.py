"""Options of the laboratory's commands that are no good: one sentence, before anything is read."""

import pytest

import trpts_lab.cli  # noqa: F401 - its commands are tried here
from trpts.cli import main

HUGE = str(10**30)
REFUSED = [
    *[(["lvlm-train"], "--minutes", x) for x in ("nan", "-1", "0", "inf", "1e400", "1 h")],
    *[(["bench", "tokens"], "--rounds", x) for x in ("0", "-1", HUGE, "nan")],
    *[(["bench", "tokens"], "--batch-size", x) for x in ("0", "-1", HUGE, "1.5")],
    *[(["sweep"], "--seeds", x) for x in ("-1", HUGE, str(2**32), "a", "0.5", "nan")],
    *[(["sweep"], "--workers", x) for x in ("0", "-1", HUGE, "many")],
    (["sweep"], "--scheduler", ""),
    (["data", "list"], "--root", ""),
    (["data", "make", "nlvr_count"], "--from", ""),
    (["student"], "--notebooks", ""),
    (["student"], "--nbgrader", ""),
]


@pytest.mark.parametrize(("command", "option", "value"), REFUSED)
def test_the_option_is_named_before_any_work(tmp_path, monkeypatch, capsys, command, option, value):
    """There is no checkout here: were it looked for, that would be the sentence."""
    monkeypatch.chdir(tmp_path)
    assert main([*command, f"{option}={value}"]) == 2
    err = capsys.readouterr().err
    assert f"{option}: expected a" in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sweep", "--seeds", "0", "1", "0"], "--seeds: 0 is named twice"),
        (["sweep", "--seeds", "1", "01"], "--seeds: 1 is named twice"),
        (["sweep", "--tasks", "digits", "digits"], "--tasks: digits is named twice"),
        (["sweep", "--methods", "GPS", "linear", "GPS"], "--methods: GPS is named twice"),
        (["sweep", "--ablations", "score", "score"], "--ablations: score is named twice"),
        (["sweep", "--further", "text", "text"], "--further: text is named twice"),
        (["claims", "--only", "T05", "T05"], "--only: T05 is named twice"),
        (["run", "--only", "00", "-p", "n=1", "-p", "n=2"], "--parameter n is given twice"),
        (["lvlm-train", "--ship", "--minutes", "3"], "--minutes says nothing to --ship"),
        (["bench", "chapters", "--batch-size", "3"], "--batch-size says nothing to the bench"),
        (["sweep", "--tuning", "--ablations"], "not allowed with argument"),
        (["data", "list", "nlvr_count"], "expected `trpts data list`, with nothing else"),
        (["data", "list", "--from", "x"], "expected `trpts data list`, with nothing else"),
        (["data", "list", "--against", "x"], "expected `trpts data list`, with nothing else"),
        (["data", "check", "nlvr_count", "--against", "x"], "--against says nothing to"),
        (["compare", "", "HEAD"], "A: expected a name"),
        (["compare", "HEAD", " "], "B: expected a name"),
        (["bench", "nope"], "what: invalid choice: 'nope'"),
    ],
)
def test_what_would_be_passed_over(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.startswith("trpts: ")
    assert err.count("\n") == 1
