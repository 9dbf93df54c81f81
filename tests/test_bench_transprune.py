"""The bench of TransPrune at tiny size: what it compares, what it counts, what it says. Nothing is
timed.
"""

import itertools
import json

import pytest
import torch

from trpts.cli import main
from trpts.transprune import HIGH, plugin, pruning
from trpts_lab.bench import transprune as bench_transprune
from trpts_lab.bench.benches import lines
from trpts_lab.bench.transprune import (
    HIGH_ROW,
    IMAGE,
    KEEP_ALL,
    SCORING,
    UNPRUNED,
    prompts,
    thin_llava,
)

TINY = {
    "width": 32,
    "mlp": 48,
    "layers": 6,
    "heads": 2,
    "words": 40,
    "side": 4,
    "before": 3,
    "after": 5,
}


@pytest.fixture
def narrow(monkeypatch):
    """Another size of the same model."""
    monkeypatch.setattr(bench_transprune, "SIZE", TINY)


def test_vision_hardly_counts():
    """At full size, tower and projector are under a thousandth of the products: without weights, by
    their shapes.
    """
    size = bench_transprune.SIZE
    with torch.device("meta"):
        model = thin_llava(size, "meta")
    weights = {
        name: sum(p.numel() for p in module.parameters() if p.ndim > 1)
        for name, module in (
            ("thin", model.model.vision_tower),
            ("projector", model.model.multi_modal_projector),
            ("text", model.model.language_model.layers),
        )
    }
    assert weights["text"] == 24 * (4 * 1024**2 + 3 * 1024 * 2816)
    assert weights["thin"] + weights["projector"] < weights["text"] / 1000


def test_prompts_are_text_image_text(narrow):
    inputs = prompts(TINY, 2)
    image = inputs["input_ids"] == IMAGE
    assert image[:, 3:19].all()
    assert image.sum() == 2 * 16
    assert inputs["input_ids"].shape == (2, 3 + 16 + 5)
    assert inputs["attention_mask"].all()


def test_rows_prune_what_they_say(narrow, monkeypatch):
    """Each row but the unpruned one runs inside `pruning`, by its own criterion, at High's scaled
    layers and counts, or a third before the model.
    """
    seen = []

    def watched(model, plan):
        seen.append(plan)
        return pruning(model, plan)

    monkeypatch.setattr(plugin, "pruning", watched)
    rows = bench_transprune.bench_transprune(1, 2)
    compared = bench_transprune.plans(6)
    assert {len(row["s"]) for row in rows.values()} == {2}
    assert set(rows) == {SCORING, *compared}
    assert set(seen) == {plan for plan in compared.values() if plan}
    high = HIGH.scaled(6)
    for name in ("transprune", *bench_transprune.CRITERIA):
        plan = compared.get(name, compared[HIGH_ROW])
        assert plan.scores == (name,) * 3
        assert (plan.prune_after, plan.keep) == (high.prune_after, HIGH.keep)
    for name in bench_transprune.BEFORE:
        plan = compared[f"{name} before"]
        assert (plan.prune_after, plan.n_kept(576), plan.score) == ((0,), [192], name)
    assert compared[bench_transprune.COMBINED].scores == ("divprune", *["transprune"] * 3)
    assert rows[KEEP_ALL]["macs"] == rows[UNPRUNED]["macs"]
    assert all(
        0 < s < high for s, high in zip(rows[SCORING]["s"], rows[HIGH_ROW]["s"], strict=True)
    )
    assert (
        rows["random"]["macs"]
        < rows["iga"]["macs"]
        < rows[HIGH_ROW]["macs"]
        < rows[UNPRUNED]["macs"]
    )


def test_scoring_is_every_module_watched_and_every_stage(narrow, monkeypatch):
    """On a clock that ticks once a reading, a work takes as many seconds as it has timed calls."""
    ticks = itertools.count()
    monkeypatch.setattr(bench_transprune.time, "perf_counter", lambda: next(ticks))
    plan = HIGH.scaled(6)
    counted = bench_transprune.scoring(thin_llava(TINY), prompts(TINY, 1), plan)
    assert counted == 2 * len(plan.accumulate) + len(plan.prune_after)


def test_verdicts():
    seconds = {UNPRUNED: 1.0, KEEP_ALL: 1.005, HIGH_ROW: 0.5, SCORING: 0.03, "random": 0.45}
    rows = {name: {"s": [s]} for name, s in seconds.items()}
    for name, count in ((UNPRUNED, 100), (KEEP_ALL, 101), (HIGH_ROW, 46), ("random", 45)):
        rows[name]["macs"] = count
    text = "\n".join(lines("transprune", rows))
    assert "High / unpruned: 0.500 (0.500 to 0.500); multiply-accumulates 0.460" in text
    assert "time over those 1.087, bar 1.1: met" in text
    assert "random / unpruned: 0.450 (0.450 to 0.450); multiply-accumulates 0.450" in text
    assert "High: its scoring / High: 0.060 (0.060 to 0.060), bar 0.05: missed" in text
    assert "nothing dropped / unpruned: 1.005 (1.005 to 1.005), bar 1.01: met" in text
    rows[KEEP_ALL]["s"] = [1.02]
    rows[HIGH_ROW]["s"] = [0.6]
    text = "\n".join(lines("transprune", rows))
    assert "time over those 1.304, bar 1.1: missed" in text
    assert "High: its scoring / High: 0.050 (0.050 to 0.050), bar 0.05: met" in text
    assert "nothing dropped / unpruned: 1.020 (1.020 to 1.020), bar 1.01: missed" in text


def test_command_asks_one_prompt_at_a_time(narrow, tiny, capsys):
    project = tiny({"00_a": ["1"]})
    assert main(["bench", "transprune", "--rounds", "1"]) == 0
    record = json.loads(next((project.root / "data" / "bench").glob("*.json")).read_text())
    assert record["batch_size"] == 1
    assert record["summary"] == [line.strip() for line in capsys.readouterr().out.splitlines()[1:]]
    assert record["versions"]["torch"]
    assert bench_transprune.BENCH.batch_size == 1
