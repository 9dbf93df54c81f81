"""The ledger of claims: complete, as committed, and red when what a verdict rests on is changed."""

import ast
import inspect
import json
import re
import shutil

import numpy as np
import pytest
import torch

from trpts import allocation, layers, sparse
from trpts.backbones import create_backbone
from trpts.cli import main
from trpts.errors import TrptsError
from trpts.methods import prepare_trpts
from trpts.tuning import tune
from trpts_lab import paper
from trpts_lab.book import claims_page, shown
from trpts_lab.book.chapters import Chapter
from trpts_lab.claims import account, costs, evidence, ledger, quoted
from trpts_lab.claims.evidence import (
    CONFIRMED,
    CONTRADICTED,
    FAILS,
    HOLDS,
    MISSING,
    UNDECIDED,
    VERDICTS,
    decide,
    interval,
)
from trpts_lab.experiments import selection


@pytest.fixture
def copy(project, tmp_path, monkeypatch):
    """A project with copies of the records, benches and profiles, and a ledger committed to
    them.
    """
    for part in ("data/results", "data/bench", "profiles"):
        shutil.copytree(project.root / part, tmp_path / part)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    small = type(project)(tmp_path)
    ledger.write_ledger(small)
    return small


def edited(project, kind, edit):
    """Rewrite a committed file: each record goes through `edit`, which may drop it by None; how
    many it dropped.
    """
    path = project.committed / f"{kind}.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = [row for row in map(edit, rows) if row is not None]
    path.write_text(
        "".join(f"{json.dumps(row, sort_keys=True, ensure_ascii=False)}\n" for row in kept)
    )
    return len(rows) - len(kept)


def row_of(project, name, half=0):
    """What the ledger says of a claim, or of one of those that it joins."""
    return ledger.halves(name, ledger.statements()[name], evidence.Evidence(project))[half]


def test_every_claim_has_a_row_with_evidence(project):
    rows = ledger.ledger(project)
    wanted = [f"T{n:02d}" for n in range(1, 35)] + [f"P{n:02d}" for n in range(1, 19)]
    assert [row["id"] for row in rows] == wanted
    assert set(evidence.CHECKS) == set(wanted)
    for row in rows:
        assert all(row[key] for key in ("claim", "paper", "source"))
        assert len(row["halves"]) == len(evidence.CHECKS[row["id"]])
    for half in ledger.verdicts(rows):
        assert half["verdict"] in VERDICTS
        assert all(half[key] for key in ("claim", "words", "rests_on"))
        assert half["verdict"] != MISSING or "`trpts " in half["words"], (
            "what is missing names its remedy"
        )


def test_a_claim_that_joins_several_has_a_verdict_for_each(project):
    """T08's lead on full tuning is in the source, its lead on LoRA is not: neither hides the
    other.
    """
    rows = {row["id"]: row for row in ledger.ledger(project)}
    for name in ("T08", "T10"):
        assert [half["verdict"] for half in rows[name]["halves"]] == [CONFIRMED, CONTRADICTED]
    assert [half["verdict"] for half in rows["P01"]["halves"]] == ["reproduced", FAILS]
    assert [half["claim"] for half in rows["P01"]["halves"]] == [
        "inference TFLOPs more than halved",
        "at comparable accuracy",
    ]
    assert ledger.committed_as(rows["T08"]) == [CONFIRMED, CONTRADICTED]
    assert ledger.committed_as(rows["T05"]) == rows["T05"]["halves"][0]["verdict"]
    entry = claims_page._entry(rows["T08"])
    for half in rows["T08"]["halves"]:
        assert f"- *{half['claim']}*: **{half['verdict']}.**" in entry
    assert entry.startswith("**T08.** VTAB-1k mean 75.92")


def test_one_half_of_several_turns_alone(project, monkeypatch):
    monkeypatch.setitem(paper.BRIEF_VTAB, "full", 65.58)
    halves = [row_of(project, "T08", half)["verdict"] for half in (0, 1)]
    assert halves == [CONTRADICTED, CONTRADICTED]
    monkeypatch.setitem(paper.BRIEF_VTAB, "full", 65.57)
    monkeypatch.setitem(paper.BRIEF_VTAB, "LoRA", 72.63)
    # the number is the source's now, and GPS is still the stronger peer
    halves = [row_of(project, "T08", half)["verdict"] for half in (0, 1)]
    assert halves == [CONFIRMED, CONTRADICTED]
    monkeypatch.setitem(paper.VTAB_MEANS, "GPS", 70.0)
    assert row_of(project, "T08", 1)["verdict"] == CONFIRMED
    monkeypatch.setattr(paper, "BRIEF_FGVC", paper.FGVC["TR-PTS"])
    assert row_of(project, "T10", 1)["verdict"] == CONFIRMED


def test_group_means_follow_or_do_not(project, monkeypatch):
    assert [row_of(project, "T09", half)["verdict"] for half in (0, 1)] == [
        "inconsistent in itself",
        CONTRADICTED,
    ]
    fitting = {"natural": (84.0, 7), "specialized": (87.0, 4), "structured": (63.31, 8)}
    monkeypatch.setattr(paper, "BRIEF_GROUPS", fitting)
    assert [row_of(project, "T09", half)["verdict"] for half in (0, 1)] == ["unconfirmed"] * 2


def test_what_is_trained_is_what_the_default_trains(project):
    """The share on VTAB-1k fits with the patch embedding alone, which the default leaves out."""
    halves = [row_of(project, "T07", half) for half in (0, 1)]
    assert [half["verdict"] for half in halves] == [FAILS, "reproduced"]
    model = evidence.Evidence(project).vit_b
    assert quoted.neurons_of(model, patches=True) == quoted.neurons_of(model) + model.embed_dim
    assert inspect.signature(prepare_trpts).parameters["patches"].default is False


def test_memory_rests_on_what_does_not_flatter_it(copy):
    """A step needs less than full tuning's; a run, its selection included, does not."""
    assert row_of(copy, "T26")["verdict"] == UNDECIDED
    path = copy.root / "data" / "bench" / "methods.json"
    made = json.loads(path.read_text(encoding="utf-8"))
    made["rows"]["TR-PTS without tokens"]["peak_bytes"] /= 2
    path.write_text(json.dumps(made))
    assert row_of(copy, "T26")["verdict"] == HOLDS
    path.unlink()
    assert row_of(copy, "T26")["words"] == "needs a bench: `trpts bench methods`"
    assert row_of(copy, "T26", 1)["verdict"] == HOLDS  # the other half needs other benches


def test_the_lead_on_chance_rests_on_all_compared_tasks(project):
    row = row_of(project, "T01")
    n = len(evidence.Evidence(project).profile["benchmark"]["sweep"]["compared_tasks"])
    assert f"over {n} tasks" in row["words"]
    assert row["rests_on"] == "comparison"


def test_the_committed_verdicts_follow_from_the_committed_records(project):
    assert ledger.check_ledger(project, ledger.ledger(project)) == []


@pytest.mark.slow
def test_a_mean_shifted_past_its_interval_turns_a_verdict(copy, capsys):
    before = row_of(copy, "P03")
    assert before["verdict"] == HOLDS

    def shift(record):
        record["metrics"]["mean_accuracy"] -= 0.1 * (record["config"]["variant"] == "iga, High")
        return record

    edited(copy, "pruning", shift)
    assert row_of(copy, "P03")["verdict"] == FAILS
    assert main(["claims"]) == 1
    out = capsys.readouterr().out
    assert "RED  P03: the verdict was 'holds in the lab' and is 'does not hold in the lab'" in out
    assert "RED  data/results/pruning.jsonl was changed since the ledger was written" in out


def test_an_edited_number_a_missing_and_a_new_file_are_named(copy):
    assert ledger.check_ledger(copy, []) == []

    def nudge(record):
        record["metrics"]["probe_test_accuracy"] += 1e-6
        return record

    edited(copy, "starting_points", nudge)
    (copy.committed / "drift.jsonl").rename(copy.committed / "moved.jsonl")
    copy.store("full").loose.mkdir(parents=True)
    (copy.store("full").loose / "drift-0123456789abcdef.json").write_text("{}")
    assert [sentence.partition(" since")[0] for sentence in ledger.check_ledger(copy, [])] == [
        "data/results/drift.jsonl is gone",
        "data/results/moved.jsonl is new",
        "data/results/starting_points.jsonl was changed",
        "1 records are not packed: `trpts pack`",
    ]


def test_a_formula_off_by_one_turns_a_verdict(project, monkeypatch):
    assert row_of(project, "T07", 1)["verdict"] == "reproduced"
    share = quoted.share
    monkeypatch.setattr(
        quoted, "share", lambda model, n, *rest, **more: share(model, n + 1, *rest, **more)
    )
    assert row_of(project, "T07", 1)["verdict"] == FAILS


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("pruning", lambda n, of: n == 0),
        ("pruning", lambda n, of: n % 2 == 0),
        ("pruning", lambda n, of: n % 3 == 1),
        ("pruning", lambda n, of: n % 7 in (0, 3)),
        ("pruning", lambda n, of: n % 11 < 6),
        ("pruning", lambda n, of: n > 0.9 * of),
        ("tuned", lambda n, of: n == 0),
        ("tuned", lambda n, of: n % 2 == 0),
        ("tuned", lambda n, of: n < 0.9 * of),
        ("concentration", lambda n, of: n % 5 == 0),
        ("subtle", lambda n, of: n == 0),
        ("selection", lambda n, of: False),
    ],
)
def test_a_part_of_the_rows_is_not_measured_yet(project, tmp_path, name, left):
    """Whatever rows are left, each claim has a verdict, if only that it needs the others."""
    for part in ("profiles", "data/bench", "data/results"):
        shutil.copytree(project.root / part, tmp_path / part)
    path = tmp_path / "data" / "results" / f"{name}.jsonl"
    rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = "".join(row for n, row in enumerate(rows) if left(n, len(rows)))
    path.write_text(kept, encoding="utf-8")
    found = [half for row in ledger.ledger(type(project)(tmp_path)) for half in row["halves"]]
    assert {half["verdict"] for half in found} <= set(VERDICTS)
    assert all(half["words"].startswith("needs ") for half in found if half["verdict"] == MISSING)


def test_without_its_records_a_claim_says_what_makes_them(project, tmp_path):
    shutil.copytree(project.root / "profiles", tmp_path / "profiles")
    empty = type(project)(tmp_path)
    rows = {row["id"]: row["halves"] for row in ledger.ledger(empty)}
    assert rows["P03"][0]["verdict"] == MISSING
    assert rows["P03"][0]["words"] == "needs records of pruning: `trpts run --profile full`"
    assert rows["T24"][0]["words"] == "needs a bench: `trpts bench train`"
    assert rows["T10"][1]["verdict"] == CONTRADICTED  # arithmetic needs none
    with pytest.raises(
        TrptsError, match=r"ledger.json: not a readable ledger .*`trpts claims --write` makes it"
    ):
        ledger.check_ledger(empty, [])


def test_one_seed_is_no_result(copy):
    """The ablation of the score rests on more than one seed, or on none."""
    assert edited(copy, "tuned", lambda record: record if record["config"]["seed"] == 0 else None)
    row = row_of(copy, "T15")
    assert row["verdict"] == MISSING
    assert row["words"].startswith(
        "needs a second seed (`trpts sweep --ablations 'score'`); the first says "
    )


def test_decisions_by_hand():
    """1, 2, 3: mean 2, standard error 1 / sqrt(3), t of two degrees of freedom 4.3027."""
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert (mean, round(low, 4), round(high, 4)) == (2.0, -0.4841, 4.4841)
    assert [decide(*ends) for ends in ((0.1, 0.3), (-0.3, -0.1), (-0.1, 0.1))] == [
        HOLDS,
        FAILS,
        UNDECIDED,
    ]
    assert decide(-0.005, 0.1, better=-0.01) == HOLDS


class Made:
    """Evidence of made-up metrics, by variant and seed, or as a list of records."""

    def __init__(self, pruned=None, records=()):
        self.made, self.list = pruned, records

    def pruned(self, variant):
        return self.made[variant]

    pruned_gap = evidence.Evidence.pruned_gap

    def records(self, kind):
        return [{"metrics": metrics} for metrics in self.list]


def test_a_difference_of_either_sign_is_a_difference():
    def moved(by):
        return Made(
            {
                "transprune, High": {s: {"mean_accuracy": 0.5 + 0.01 * s} for s in range(4)},
                "transprune, High, early": {
                    s: {"mean_accuracy": 0.5 + 0.012 * s + by} for s in range(4)
                },
            }
        )

    (check,) = evidence.CHECKS["P10"]
    assert [check(moved(by))[0] for by in (-0.2, 0.2, 0.0)] == [HOLDS, HOLDS, UNDECIDED]


def test_seeds_are_paired_by_their_numbers():
    """The same four draws in another order: each keeps .1 more than chance, exactly."""
    ours = {s: {"recall": {"a": 0.5 + 0.1 * s}} for s in (3, 0, 2, 1)}
    chance = {s: {"recall": {"a": 0.4 + 0.1 * s}} for s in (0, 1, 2, 3)}
    both = Made({"transprune, High": ours, "random, High": chance})
    (check,) = evidence.CHECKS["P13"]
    assert check(both)[0] == HOLDS
    assert both.pruned_gap(
        "transprune, High", "random, High", lambda m: m["recall"]["a"]
    ) == pytest.approx((0.1,) * 3)


def test_kinds_that_differ_by_chance_are_not_called_unlike():
    """Six kinds alike but for noise: the largest less the smallest is above 5 points in each seed,
    and says nothing.
    """
    rng, kinds = np.random.default_rng(0), "abcdef"
    plain = {s: {"accuracy": dict.fromkeys(kinds, 1.0)} for s in range(5)}
    noisy = {
        s: {"accuracy": {k: 0.9 + 0.05 * rng.standard_normal() for k in kinds}} for s in range(5)
    }
    assert (
        min(max(m["accuracy"].values()) - min(m["accuracy"].values()) for m in noisy.values())
        > 0.05
    )
    (check,) = evidence.CHECKS["P15"]
    assert check(Made({"unpruned": plain, "transprune, High": noisy}))[0] != HOLDS
    for found in noisy.values():
        found["accuracy"]["c"] -= 0.4
    verdict, words, _ = check(Made({"unpruned": plain, "transprune, High": noisy}))
    assert verdict == HOLDS
    assert words.startswith("lost by pruning, in points: c 5")


def test_claims_on_kinds_of_tasks_rest_on_tasks():
    """Three seeds agree to the digit that two fine-grained tasks lie later; two tasks of each kind
    do not decide it.
    """

    def lies(where):
        return {
            f"{task}/{block}": float(block == where[task]) for task in where for block in range(8)
        }

    apart = {"cub_twin": 3, "cars_twin": 4, "clevr_count_twin": 2, "dsprites_loc_twin": 4}
    once = {
        "block_share": lies(apart),
        "density_and_redundancy": dict.fromkeys(apart, -0.5) | {"cub_twin": 0.9},
    }
    (late,), (alike,) = evidence.CHECKS["T19"], evidence.CHECKS["T32"]
    three = Made(records=[once] * 3)
    assert late(three)[0] == UNDECIDED
    assert alike(three)[0] == UNDECIDED
    far = {"cub_twin": 6, "cars_twin": 7, "clevr_count_twin": 1, "dsprites_loc_twin": 0}
    both = {
        "block_share": lies(far),
        "density_and_redundancy": {t: -0.5 - 0.01 * n for n, t in enumerate(far)},
    }
    three = Made(records=[both] * 3)
    assert late(three)[0] == HOLDS
    assert alike(three)[0] == HOLDS


def test_records_of_another_device_are_not_counted_twice(copy):
    """Made again on a GPU they stand beside the others, and no page or claim reads them."""
    before = row_of(copy, "T32")
    for made in copy.store("full").records("selection"):
        other = {"config": made["config"] | {"device": "cuda"}}
        other["metrics"] = made["metrics"] | {"density_and_redundancy": {"cub_twin": 1.0}}
        copy.store("full").add(made | other)
    assert row_of(copy, "T32") == before
    assert len(shown.full_records(selection)) == 3


def test_the_command(copy, capsys):
    assert main(["claims", "--only", "T10", "P06", "--json"]) == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)] == ["T10", "P06"]
    assert main(["claims", "--only", "T99"]) == 2
    assert "claim 'T99' is unknown: expected some of T01, " in capsys.readouterr().err


# Names, not numbers: claims and variants, models and data sets, equations.
NAMES = re.compile(
    r"[TP]\d\d|C = 2|r = 2|ρ = |ViT-B/16|VTAB-1k|Qwen2\.5-VL|LLaVA-1\.5|eq\. 7|blocks\.0\.x|utf-8|"
    r"vit_base_patch16_224|--only 05|\d+ scored"
)


def texts_of(path):
    """(line, text) of the strings in a module that a page may show: no docstrings, no format
    specifications.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            skipped |= {id(part) for part in node.format_spec.values}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in skipped
        ):
            yield node.lineno, node.value


def typed_numbers(texts):
    return [f"{place}: {text}" for place, text in texts if re.search(r"\d", NAMES.sub("", text))]


def test_no_number_of_a_verdict_is_typed_by_hand(project, tmp_path):
    """Words of checks, our side of the deviations and of the log, and the report's prose between
    its tables.
    """
    room = project.root / "trpts_lab" / "claims"
    files = [*sorted(room.glob("*.py")), project.root / "trpts_lab" / "book" / "claims_page.py"]
    assert [
        x for path in files if path.name != "evidence.py" for x in typed_numbers(texts_of(path))
    ] == []
    ours = [
        (name, row[key])
        for name, table, keys in (
            ("deviations", "deviation", ("ours",)),
            ("log", "entry", ("tried", "hoped")),
        )
        for row in account.read(f"{name}.toml")[table]
        for key in keys
    ]
    assert typed_numbers(ours) == []
    nb = Chapter(project, project.notebooks / "09_reproduction_report.ipynb").nb
    prose = [(n, c.source) for n, c in enumerate(nb.cells) if c.cell_type == "markdown"]
    start, end = (
        next(n for n, text in prose if text.startswith(title))
        for title in ("## The scoreboard", "## Exer")
    )
    report = [(n, text) for n, text in prose if start <= n < end]
    assert len(report) > 6
    assert typed_numbers(report) == []
    planted = tmp_path / "planted.py"
    planted.write_text('"""Of 3 words."""\nwords = f"{x:.2f} of 75.92, T05"\nother = "by T05"\n')
    assert typed_numbers(texts_of(planted)) == ["2:  of 75.92, T05"]


def test_deviations_and_log_say_what_they_rest_on(project, copy):
    rows, entries = (
        function(evidence.Evidence(project)) for function in (account.deviations, account.log)
    )
    assert {row["paper"] for row in rows} == {"TR-PTS", "TransPrune"}
    by_topic = {row["topic"]: row for row in rows}
    assert by_topic["layers of the stages"]["ours"].endswith("25.0%, 37.5%, 50.0% of the depth")
    assert re.search(r"\d+% of the layers", by_topic["C_min below 1"]["changes"])
    for text in [*(row["changes"] for row in rows), *(entry["found"] for entry in entries)]:
        assert re.search(r"points \(|not measured|of the time", text), text
    assert not any("{" in row["ours"] for row in rows)
    query = {"pruned": "released, High", "base": "transprune, High"}
    before = account.effect(evidence.Evidence(copy), query)

    def shift(record):
        record["metrics"]["mean_accuracy"] -= 0.1 * (
            record["config"]["variant"] == "released, High"
        )
        return record

    edited(copy, "pruning", shift)
    shifted = account.effect(evidence.Evidence(copy), query)
    value = [float(re.search(r": ([+-][\d.]+) points", text)[1]) for text in (before, shifted)]
    assert value[1] == pytest.approx(value[0] - 10, abs=0.11)


def test_what_the_deviations_call_ours_is_what_the_code_does():
    """Frozen norms and embeddings, no patch embedding, a probe of the scored images, one rate, and
    C_min below 1.
    """
    options = inspect.signature(prepare_trpts).parameters
    assert (options["patches"].default, options["held_out"].default) == (False, False)
    assert inspect.signature(tune).parameters["head_lr"].default is None
    model = create_backbone("vit_small_digits", 10)
    scores = {
        name: torch.full(layer.weight.shape, 1.5**-number)
        for number, (name, layer) in enumerate(layers.scored_layers(model).items())
    }
    plan = allocation.allocate(scores, model, per_neuron=2.0, w="mean")
    assert plan.c_min < 1
    assert min(plan.connections.values()) == 1
    sparse.attach(model, plan.select(scores))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    frozen = ("norm", "pos_embed", "cls_token", "patch_embed")
    assert not [name for name in trained if any(part in name for part in frozen)]
    assert {name for name in trained if name.endswith(".bias")} >= {
        f"{name}.bias" for name in scores
    }


def test_an_experiment_with_a_run_missing_is_not_measured(copy):
    query = {"remedy": "fisher_drawn"}
    assert account.effect(evidence.Evidence(copy), query).startswith("against Fisher's score: ")
    first = copy.store("full").records("remedy")[0]["config"]
    assert edited(copy, "remedy", lambda record: None if record["config"] == first else record) == 1
    said = account.effect(evidence.Evidence(copy), query)
    assert said == "not measured yet: needs 1 of 24 runs: `trpts sweep --further remedy`"


def test_statements_are_counted_without_prose_and_layout():
    source = (
        '"""Doc."""\n\ndef f():\n    """Doc."""\n    text = "#"  # a comment\n    return text\n'
    )
    wide = 'def f():\n    text = (\n        "#"\n    )\n    return text\n'
    assert costs.n_statements(source) == costs.n_statements(wide) == 3
