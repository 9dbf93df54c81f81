"""Options of the library's commands that are no good: one sentence, before anything is read."""

import argparse

import pytest

from trpts.cli import main
from trpts.options import Different, filled, real, repeated, whole

TUNE = ["tune", "photos", "--out", "tuned.safetensors"]
PREDICT = ["predict", "tuned.safetensors", "photo.png"]
PRUNE = ["prune", "--model", "m", "--image", "i.png", "--question", "q"]
HUGE = str(10**30)
REFUSED = [
    *[
        (TUNE, option, value)
        for option, values in {
            "--epochs": ("0", "-1", "1.5", "x", HUGE, "1_000"),
            "--lr": ("nan", "inf", "-inf", "1e308", "-1", "1,5", "1e400", ""),
            "--batch-size": ("0", "-1", HUGE, str(2**63)),
            "--per-neuron": ("nan", "0", "inf", "1e308"),
            "--keep": ("nan", "0", "1.01", "-0.5", "half"),
            "--token-blocks": ("-1", HUGE, "2.0"),
            "--seed": ("-1", HUGE, str(2**32), str(2**64), "0x10"),
            "--image-size": ("0", "-4", HUGE, "4000000"),
            "--out": ("", " "),
        }.items()
        for value in values
    ],
    *[(PREDICT, "--top", value) for value in ("0", "-3", "nan", HUGE)],
    *[(PRUNE, "--new-tokens", value) for value in ("0", "-1", HUGE, "nan")],
    *[(PRUNE, option, "") for option in ("--model", "--image", "--out")],
]


def refusal(capsys, arguments):
    """What the command says, which is one sentence on stderr."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("trpts: ")
    assert captured.err.count("\n") == 1
    assert not captured.out
    return captured.err


@pytest.mark.parametrize(("command", "option", "value"), REFUSED)
def test_the_option_is_named_before_any_work(tmp_path, monkeypatch, capsys, command, option, value):
    """Neither image folder nor model exists: were they looked for, that would be the sentence."""
    monkeypatch.chdir(tmp_path)
    assert f"{option}: expected a" in refusal(capsys, [*command, f"{option}={value}"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*TUNE, "--method", "linear", "--keep", ".5"], "--method linear has no --keep"),
        ([*TUNE, "--method", "linear", "--token-blocks", "0"], "has no --token-blocks"),
        ([*TUNE, "--method", "linear", "--per-neuron", "2"], "has no --per-neuron"),
        ([*PREDICT, "--json", "--top", "2"], "--top with --json"),
        (["tune", "", "--out", "x"], "DATA: expected a name"),
        (["predict", "", "x"], "MODEL: expected a name"),
        (["predict", "x", "a.png", ""], "IMAGE: expected a name"),
        (["export", "", "--out", "x"], "DELTA: expected a name"),
        (["tune", "photos"], "required: --out"),
        (["tune", "photos", "--nope", "--out", "x"], "unrecognized arguments: --nope"),
        ([], "required: COMMAND"),
        (["predict", "x"], "see `trpts predict --help`"),
    ],
)
def test_what_would_be_passed_over_or_is_missing(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in refusal(capsys, arguments)


def test_numbers_in_their_bounds():
    assert [whole()("1"), whole(0)("0"), whole(0, 5)("+5"), whole(-2)("-2")] == [1, 0, 5, -2]
    assert [real(0, 1)("0"), real(0, 1, above=True)("1"), real(0, 9)(".5e1")] == [0, 1, 5]
    assert filled(" a ") == " a "
    assert [repeated([1, 2]), repeated([2, 1, 2]), repeated([])] == [None, 2, None]
    with pytest.raises(argparse.ArgumentTypeError, match="above 0 and at most 1, found '0'"):
        real(0, 1, above=True)("0")
    with pytest.raises(argparse.ArgumentTypeError, match=r"found '9{50}…'$"):
        whole()("9" * 5000)


def test_different_values():
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--seeds", nargs="*", type=int, action=Different)
    assert parser.parse_args(["--seeds", "0", "1"]).seeds == [0, 1]
    assert parser.parse_args(["--seeds"]).seeds == []
    with pytest.raises(argparse.ArgumentError, match="1 is named twice"):
        parser.parse_args(["--seeds", "1", "01"])
