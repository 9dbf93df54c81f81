"""The gate: what a test bed shows of what is known, from hand-made records; and the committed
bed.
"""

import pytest
from test_sweep import record

from trpts_lab import gate, grid
from trpts_lab.book.pages import gate_table
from trpts_lab.profiles import load_profile
from trpts_lab.store import NotThere, Store

KNOWN = {  # task: (linear, LoRA, full), two seeds each; a test bed that shows what is known
    "clevr_count_twin": ((0.40, 0.38), (0.47, 0.41), (0.50, 0.40)),
    "real/mnist": ((0.89, 0.89), (0.97, 0.95), (0.98, 0.96)),
}


def bed(**changed):
    records = []
    for task, methods in (KNOWN | changed).items():
        for variant, seeds in zip(gate.METHODS, methods, strict=True):
            for seed, accuracy in enumerate(seeds):
                records.append(
                    record({"variant": variant, "task": task, "seed": seed}, accuracy, 0.0)
                )
    return records


def test_both_conditions_at_their_edge():
    """Five points, and one point, are enough, whatever floating point makes of them."""
    assert gate.METHODS == ("linear", "LoRA, r = 8", "full")
    rows = gate.judged(bed()).set_index("task")
    assert rows.loc["clevr_count_twin", "difference"] == 0.05
    assert rows.loc["clevr_count_twin", "asked"] == "LoRA, r = 8 − linear"
    assert rows.loc["clevr_count_twin", "by seed"] == pytest.approx([0.07, 0.03])
    assert rows.loc["real/mnist", "difference"] == 0.01
    assert rows.loc["real/mnist", "asked"] == "full − LoRA, r = 8"
    assert rows["holds"].all()


@pytest.mark.parametrize(
    "changed",
    [
        {"clevr_count_twin": ((0.40, 0.38), (0.465, 0.41), (0.50, 0.40))},
        {"real/mnist": ((0.89, 0.89), (0.97, 0.95), (0.985, 0.96))},
    ],
)
def test_one_image_less_does_not_pass(changed):
    rows = gate.judged(bed(**changed)).set_index("task")
    assert not rows.loc[next(iter(changed)), "holds"]
    assert rows["holds"].sum() == 1


def test_the_page_says_who_passes_and_draws_no_verdict_where_nobody_does():
    failing = bed(**{"real/mnist": ((0.89, 0.89), (0.9, 0.9), (0.98, 0.96))})
    text = gate_table({"small": failing})
    assert "*small* does not pass: 1 of 2 conditions hold." in text
    assert "draws no verdict" in text
    text = gate_table({"small": failing, "large": bed()})
    assert "*large* passes: 2 of 2 conditions hold." in text
    assert "draws no verdict" not in text


def test_the_committed_beds_are_complete(project):
    """Each was tried on tasks that no method is compared on; the chosen rates have a worse one on
    both sides.
    """
    profile, store = load_profile(project, "real"), project.store("real")
    for tried in gate.BEDS:
        records = gate.gate_runs(profile, store, tried)
        assert len(records) == 3 * 4 * 2
        assert {r["config"]["device"] for r in records} == {tried.device}
        rates = grid.chosen_rates(gate.of_bed(profile, tried), store, gate.METHODS, tried.device)
        for rate, means in rates.values():
            assert min(means) < rate < max(means)
    assert not {r["config"]["task"] for r in records} & {
        *profile["benchmark"]["sweep"]["compared_tasks"]
    }


def test_a_bed_that_was_not_run(project, tmp_path):
    with pytest.raises(NotThere, match="linear: 0 of 40 tuning records are there"):
        gate.gate_runs(load_profile(project, "real"), Store(tmp_path), gate.BEDS[0])
