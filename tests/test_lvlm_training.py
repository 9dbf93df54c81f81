"""Training: packing changes nothing, a resumed run is the same run, the card says how it went."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from trpts.errors import TrptsError
from trpts_lab.lvlm import train as lvlm_train
from trpts_lab.lvlm.model import EOS_ID, PAD_ID, create_lvlm, load_lvlm, pixels, prompt
from trpts_lab.lvlm.packing import IGNORED, pack, pack_mask, slot_lengths
from trpts_lab.lvlm.questions import KINDS, ask, encode
from trpts_lab.lvlm.scenes import COLOURS, N_TOKENS, SHAPES, cell_tokens, draw_scene
from trpts_lab.lvlm.train import ALL, EASY, HARD, LvlmTraining, Recipe, patch_labels
from trpts_lab.project import Project
from trpts_lab.resumable import Optimizers

SHORT = Recipe(
    n_scenes=6,
    vision_steps=2,
    vision_batch_size=2,
    easy_steps=1,
    steps=3,
    hard_steps=1,
    batch_size=2,
    warmup_steps=1,
    n_held_out=2,
    evaluate_every=4,
)
P = 1 + N_TOKENS


def questions(scene, kinds, seed=0):
    rng = np.random.default_rng(seed)
    return [ask(scene, kind, rng) or ask(scene, "where", rng) for kind in kinds]


def test_a_packed_question_is_what_it_is_alone():
    model, scene = create_lvlm(seed=1), draw_scene("train", 3)
    asked, lengths = questions(scene, ALL), slot_lengths(ALL)
    ids, _ = pack([asked], lengths)
    mask, positions = pack_mask(lengths)
    with torch.no_grad():
        packed = model(
            input_ids=ids,
            pixel_values=pixels([scene.image]),
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
        ).logits[0]
        for question, start in zip(asked, P + np.cumsum([0, *lengths[:-1]]), strict=True):
            alone = model(**prompt([scene.image], [f"{question.words} {question.answer}"])).logits[
                0, P:
            ]
            assert torch.allclose(packed[start : start + len(alone)], alone, atol=1e-4)
    assert packed.std() > 0.01


def test_labels_are_the_words_that_follow():
    asked = questions(draw_scene("train", 3), ("where", "relation"))
    ids, labels = pack([asked], slot_lengths(("where", "relation")))  # 7 + 9
    where, relation = (encode(f"{q.words} {q.answer}") for q in asked)
    assert ids[0, P:].tolist() == where + [PAD_ID] * (7 - len(where)) + relation + [PAD_ID] * (
        9 - len(relation)
    )
    wanted = [IGNORED] * 16
    # "where is the red-circle ?" -> "2-3"
    wanted[len(where) - 2 : len(where)] = [where[-1], EOS_ID]
    wanted[7 + len(relation) - 2 : 7 + len(relation)] = [relation[-1], EOS_ID]
    assert labels[0].tolist() == [IGNORED] * P + wanted


@pytest.mark.parametrize("kind", KINDS)
def test_every_question_fits_its_slot(kind):
    (length,) = slot_lengths([kind])
    asked = [ask(draw_scene("train", n), kind, np.random.default_rng(n)) for n in range(200)]
    longest = max(len(encode(f"{q.words} {q.answer}")) for q in asked if q is not None)
    assert longest <= length


def test_patch_labels_are_the_objects():
    scene = draw_scene("train", 5)
    colour, shape, row, column = patch_labels(scene)
    for thing in scene.things:
        tokens = cell_tokens(thing.row, thing.column)
        assert {list(COLOURS)[c] for c in colour[tokens]} == {thing.colour}
        assert {SHAPES[s] for s in shape[tokens]} == {thing.shape}
        assert (set(row[tokens]), set(column[tokens])) == ({thing.row}, {thing.column})
    nothing = ~scene.thing_tokens.any(0)
    assert (colour[nothing] == len(COLOURS)).all()
    assert (shape[nothing] == len(SHAPES)).all()


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run(tmp_path):
    straight, broken = Project(tmp_path / "a"), Project(tmp_path / "b")
    card = LvlmTraining(SHORT).train(straight)
    for _ in range(2):  # within stage 0, then within stage 1
        assert LvlmTraining(SHORT).train(broken, stop_after=2) is None
    resumed = LvlmTraining(SHORT).train(broken)
    same = ("sha256_16", "held_out_accuracy", "recipe", "steps_done")
    assert {key: card[key] for key in same} == {key: resumed[key] for key in same}
    assert [row["step"] for row in resumed["curve"]] == [4]
    written = json.loads((tmp_path / "a/data/weights/lvlm_tiny.json").read_text())
    assert written == card
    assert (
        load_lvlm(tmp_path / "a/data/weights/lvlm_tiny.safetensors").weights_hash
        == card["sha256_16"]
    )


def test_an_interruption_within_a_step_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    project = Project(tmp_path)
    LvlmTraining(SHORT).train(project, stop_after=1)
    before = LvlmTraining(SHORT).checkpoint(project).read_bytes()
    step = Optimizers.step

    def interrupted(optimizer):
        step(optimizer)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Optimizers, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            LvlmTraining(SHORT).train(project)
    monkeypatch.setattr(LvlmTraining, "advance", lambda *_: float("nan"))
    with pytest.raises(TrptsError, match=r"the loss of step 1 is nan: .* is left as it was"):
        LvlmTraining(SHORT).train(project)
    assert LvlmTraining(SHORT).checkpoint(project).read_bytes() == before


def test_time_stops_a_run_and_what_was_done_can_be_shipped(tmp_path):
    project = Project(tmp_path)
    with pytest.raises(
        TrptsError, match=r"there is no checkpoint .*: run `trpts lvlm-train` first"
    ):
        LvlmTraining(SHORT).ship(project)
    assert LvlmTraining(SHORT).train(project, minutes=0) is None
    card = LvlmTraining(SHORT).ship(project)
    assert card["steps_done"] == 1
    assert set(card["held_out_accuracy_blank_image"]) == set(KINDS)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    LvlmTraining(SHORT).train(Project(tmp_path), stop_after=1)
    other = LvlmTraining(replace(SHORT, lr=5e-4))
    before = other.model.lm_head.weight.clone()
    with pytest.raises(TrptsError, match="belongs to another recipe"):
        other.restore(LvlmTraining(SHORT).checkpoint(Project(tmp_path)))
    assert torch.equal(other.model.lm_head.weight, before)
    assert other.step == 0


@pytest.mark.slow
def test_both_stages_learn():
    recipe = replace(
        SHORT, vision_steps=12, vision_batch_size=8, easy_steps=0, steps=100, batch_size=4
    )
    run, scenes = LvlmTraining(recipe), [draw_scene("train", n) for n in range(8)]
    text = run.model.lm_head.weight.clone()
    losses = [run.advance(scenes) for _ in range(12)]
    assert losses[-1] < 0.6 * losses[0]
    assert torch.equal(run.model.lm_head.weight, text)  # stage 0 is the vision tower's alone
    tower = run.vision.state_dict()["embeddings.patch_embedding.weight"].clone()
    losses = [run.advance(scenes) for _ in range(10)]
    assert losses[-1] < 0.7 * losses[0]
    assert not torch.equal(run.vision.state_dict()["embeddings.patch_embedding.weight"], tower)


def test_the_second_round_asks_what_is_hard_at_lower_rates(monkeypatch):
    seen = []
    monkeypatch.setattr(
        lvlm_train, "slot_lengths", lambda kinds: seen.append(kinds) or slot_lengths(kinds)
    )
    run, scenes = LvlmTraining(SHORT), [draw_scene("train", n) for n in range(6)]
    rates = []
    for _ in range(run.n_steps):
        run.advance(scenes)
        rates.append(
            max(group["lr"] for part in run.optimizer.parts for group in part.param_groups)
        )
    # each asked for twice: for the words, and for what they see
    assert seen[::2] == [EASY, ALL, ALL, HARD]
    assert rates[-1] == pytest.approx(SHORT.hard_factor * max(rates[2:-1]))


def test_the_command_is_wired(tmp_path, monkeypatch, capsys):
    from trpts.cli import main

    (tmp_path / "notebooks").mkdir()
    (tmp_path / "profiles").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lvlm_train, "Recipe", lambda: SHORT)
    assert main(["lvlm-train", "--ship"]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err
    assert main(["lvlm-train", "--minutes", "1e-9"]) == 0
    assert main(["lvlm-train", "--ship"]) == 0
    assert "lvlm_tiny.safetensors written; held out: exist" in capsys.readouterr().err
