"""What is asked of the assembled model: schedules and their prices, the knee, what is measured."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trpts.cli import main
from trpts.errors import TrptsError
from trpts.transprune.schedule import HIGH, Schedule
from trpts_lab.assembled import compared, schedules
from trpts_lab.assembled.compositions import N_TOKENS, compose
from trpts_lab.assembled.model import create_assembled
from trpts_lab.assembled.questions import Question, questions_of
from trpts_lab.experiments import assembled, depth
from trpts_lab.project import Project
from trpts_lab.versions import version_of

COMMON = {"weights": "data/weights/none.safetensors", "kinds": ["exist", "where"], "n_questions": 2}


@pytest.fixture(scope="module")
def model():
    try:
        return create_assembled(seed=1)
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture
def untrained(model, monkeypatch):
    """Experiments get a model whose projector is random."""
    monkeypatch.setattr(assembled, "load_assembled", lambda path: model)
    yield {"project": Project.find()}
    model.set_attn_implementation("sdpa")


# schedules


def test_the_knee_by_hand():
    accuracy = {"question alone": 0.2, "unpruned": 0.8}
    accuracy |= {f"no image behind {k}": 0.2 for k in range(1, 30)}
    accuracy["no image behind 9"] = 0.255  # 9 % of what seeing is worth
    accuracy["no image behind 10"] = 0.27
    accuracy |= {f"no image behind {k}": 0.73 for k in range(11, 14)}
    accuracy |= {f"no image behind {k}": 0.75 for k in range(14, 30)}
    assert schedules.knee(accuracy) == (9, 14)
    # never a tenth lost, never nine tenths there
    flat = {name: 0.5 for name in accuracy} | {"question alone": 0.2, "unpruned": 0.8}
    assert schedules.knee(flat) == (0, 29)


def test_placements_move_the_papers_stages_as_one():
    assert schedules.STAGES == HIGH.scaled(30).prune_after == (7, 8, 11)
    assert schedules.stages_at("paper", 20, 25) == (7, 8, 11)
    assert schedules.stages_at("before", 9, 14) == (5, 6, 9)
    assert schedules.stages_at("after", 9, 14) == (14, 15, 18)
    # as near as the first and the last layer allow
    assert schedules.stages_at("before", 2, 14) == (1, 2, 5)
    assert schedules.stages_at("after", 2, 28) == (25, 26, 29)


def test_prices_are_equal():
    plans = schedules.variants(9, 14)
    assert len(plans) == 49
    for placement in schedules.PLACEMENTS:
        paid = schedules.price(plans[f"transprune, {placement}"])
        for criterion in schedules.AHEAD:
            plan = plans[f"{criterion} ahead, {placement}"]
            assert plan.prune_after == (0,)
            more = Schedule((0,), (plan.keep[0] + 1 / N_TOKENS,), score=criterion)
            assert schedules.price(plan) <= paid < schedules.price(more)
    paid, side = schedules.price(plans["transprune, paper"]), plans["smaller picture, paper"]
    assert schedules.price(None, side**2) <= paid < schedules.price(None, (side + 1) ** 2)
    staged, once = (schedules.price(plans[f"transprune, paper{x}"]) for x in ("", ", one shot"))
    assert once == pytest.approx(staged, rel=0.01)
    for plan in plans.values():
        if isinstance(plan, Schedule):
            plan.check(30)
            assert Schedule(**json.loads(json.dumps(schedules.switches(plan)))) == plan


def test_a_price_by_hand():
    """Eq. 7's terms and all the others are `trpts.transprune.costs`' to test; here, of what."""
    asked = schedules.tokenizer()(schedules.ASKED).input_ids
    before, after = schedules.around()
    n_text = len(before) - N_TOKENS + len(asked) + len(after)
    config = schedules.language_config()
    assert (config.num_hidden_layers, config.hidden_size) == (schedules.N_LAYERS, 576)
    wanted = schedules.macs(
        config, 36, None, n_text, overhead=True, n_instruction_tokens=len(asked) + len(after)
    )
    assert schedules.price(None, 36) == wanted


# what is asked


def card(folder, condition, seed, **accuracy):
    path = folder / compared.weights_of(condition, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    reached = dict.fromkeys(compared.BARS, 0.95) | accuracy
    path.with_suffix(".json").write_text(json.dumps({"held_out_accuracy_half_precision": reached}))


def test_a_kind_is_used_where_both_models_reach_its_bar(tmp_path):
    project = Project(tmp_path)
    card(tmp_path, "lora", 0, count=0.74, where=0.9)
    with pytest.raises(TrptsError, match=r"_1.json is missing: run `trpts assemble --condition lo"):
        compared.kinds_of(project, "lora")
    card(tmp_path, "lora", 1, exist=0.89, digit=0.75)
    assert compared.kinds_of(project, "lora") == ["what", "colour", "where", "relation", "digit"]


def test_schedules_come_once_the_horizon_is_known(tmp_path):
    project = Project(tmp_path)
    for condition in ("projector", "lora"):
        for seed in (0, 1):
            card(tmp_path, condition, seed)
    records = []
    store = SimpleNamespace(
        found=lambda cells: [r for r in records if r["config"] in [c for _, c in cells]]
    )
    first = compared.cells(project, store)
    horizons = [config for kind, config in first if kind is assembled]
    assert len(horizons) == 2 * 2 * 31
    assert {config["split"] for config in horizons} == {"val"}
    assert sum(kind is depth for kind, _ in first) == 2 * 4
    for config in horizons:
        if "lora_" in config["weights"]:
            _, _, layer = config["variant"].rpartition(" ")
            seen = {"unpruned": 0.9, "question alone": 0.1}.get(config["variant"])
            seen = seen if seen is not None else 0.1 if int(layer) <= 8 else 0.9
            records.append({"config": config, "metrics": {"mean_accuracy": seen}})
    assert compared.knee_of(project, store, "lora") == (8, 9)
    more = compared.cells(project, store)[len(first) :]
    assert len(more) == 49 * 5 * 2
    assert {config["split"] for _, config in more} == {"test"}
    assert all("lora_" in config["weights"] for _, config in more)
    stages = {c["variant"]: c["schedule"]["prune_after"] for _, c in more if c["schedule"]}
    assert stages["ttv, before"] == [4, 5, 8]
    assert stages["ttv, after"] == [9, 10, 13]
    (ours,) = {
        json.dumps(version_of(c | {"kind": "assembled"}))
        for _, c in more
        if c["variant"] == "iga, paper"
    }
    assert json.loads(ours) == {"experiment assembled": 1, "criterion iga": 1}


# what is measured


def test_what_stayed_by_hand():
    """Of two questions' tokens: 4 and 2 asked for, 2 and 1 of them stay."""
    first, second = compose("val", 0), compose("val", 1)
    looks = []
    for shown, n in ((first, 4), (second, 2)):
        asked = np.zeros(N_TOKENS, bool)
        asked[np.flatnonzero(shown.tokens[0])[:n]] = True
        ground = np.flatnonzero(~shown.tokens.any(0))[:3]
        kept = np.zeros(N_TOKENS, bool)
        kept[np.flatnonzero(asked)[: n // 2]] = True
        kept[np.flatnonzero(shown.tokens[1])[:1]] = True
        kept[ground] = True
        question = Question("exist" if n == 4 else "where", "", "", asked)
        looks.append((question.kind, (shown, question), {3: asked | kept, 7: kept}))
    n = [2 + 1 + 3, 1 + 1 + 3]
    found = assembled.kept_metrics(looks)
    assert found["recall"] == {"exist": 0.5, "where": 0.5}
    assert found["by_stage"] == {"3": 1.0, "7": 0.5}
    wanted = {"asked": 3 / sum(n), "others": 2 / sum(n), "ground": 6 / sum(n)}
    assert found["share"] == pytest.approx(wanted)
    assert sum(found["place"].values()) == pytest.approx(sum(n) / 2)


def test_a_run(untrained, monkeypatch):
    shown = []

    def right(model, pairs, blank=False, side=None):
        shown.append((len(pairs), blank, side))
        return real(model, pairs, blank, side)

    real = assembled.right_answers
    monkeypatch.setattr(assembled, "right_answers", right)
    plans = schedules.variants(9, 14)
    for variant, wanted in (
        ("question alone", (2, True, None)),
        ("smaller picture, paper", (2, False, 6)),
    ):
        metrics = assembled.run(assembled.cell(variant, plans[variant], 0, **COMMON) | untrained)
        assert shown[-1] == wanted
        assert set(metrics) == {"accuracy", "mean_accuracy", "macs_ratio", "macs_ratio_all"}
    name = "oracle, paper"
    metrics = assembled.run(assembled.cell(name, plans[name], 0, **COMMON) | untrained)
    assert metrics["recall"]["where"] == 1.0
    assert metrics["macs_ratio_all"] == schedules.price(plans[name]) / schedules.price(None)
    assert "place" not in metrics


def test_auc_and_rank_correlation_by_hand():
    scores, asked = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    assert depth.auc(scores, asked) == 0.75  # of four pairs one is the wrong way round
    assert depth.auc(np.ones(4), asked) == 0.5
    assert np.isnan(depth.auc(scores, np.zeros(4, bool)))
    assert depth.rank_correlation([1, 2, 30], [5, 6, 7]) == pytest.approx(1)
    assert depth.rank_correlation([1, 2, 3], [9, 9, 9]) == 0
    assert depth.rank_correlation([3, 1, 2], [1, 3, 2]) == pytest.approx(-1)


def test_layers_are_what_the_model_computes(untrained, model):
    """Norms and attention of one question against the model's own outputs, row by row."""
    (pair,) = questions_of("val", "where", 1)
    model.set_attn_implementation("eager")
    (found,) = depth.looked(model, [pair])
    padded = depth.looked(model, [pair, questions_of("val", "relation", 1)[0]])[0]
    for name, values in found.items():
        assert padded[name] == pytest.approx(values, rel=2e-2, abs=2e-2), name
    inputs = depth.prompt([pair[0].image], [pair[1].words])
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True, output_attentions=True)
    image = (inputs["input_ids"][0] == model.config.image_token_id).nonzero().flatten()
    last = int(image[-1]) + 1
    for layer in (0, 11, 28):
        states, weights = output.hidden_states[layer + 1][0], output.attentions[layer][0].mean(0)
        assert found["norm_first"][layer] == pytest.approx(float(states[0].norm()), rel=1e-4)
        assert found["norm_text"][layer] == pytest.approx(
            float(states[last:].norm(dim=1).mean()), rel=1e-4
        )
        text = weights[last:].mean(0)
        assert found["on_first"][layer] == pytest.approx(float(text[0]), abs=1e-5)
        assert found["on_image"][layer] == pytest.approx(float(text[image].sum()), abs=1e-5)
    assert found["on_first"][20] > 0.3  # a pre-trained model's sink
    assert all(len(values) == 30 for values in found.values())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--profile", "full"], "--pruning with --profile full: expected --profile real"),
        (["--profile", "real", "--tasks", "digits"], "--tasks says nothing to --pruning"),
        (["--profile", "real", "--seeds", "0"], "--seeds says nothing to --pruning"),
    ],
)
def test_the_sweep_refuses_what_it_would_ignore(more, words, capsys):
    assert main(["sweep", "--pruning", "--dry-run", *more]) == 2
    assert words in capsys.readouterr().err
