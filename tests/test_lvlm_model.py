"""The model's file, its prompts, and the counting of right answers."""

import numpy as np
import pytest
import torch

from trpts.files import write_tensors
from trpts.hashes import file_hash
from trpts_lab.lvlm import model as lvlm
from trpts_lab.lvlm.answers import accuracy, answer, right_answers
from trpts_lab.lvlm.model import IMAGE_ID, PAD_ID, create_lvlm, load_lvlm, prompt, save_lvlm
from trpts_lab.lvlm.questions import ANSWERS, VOCABULARY, encode, questions_of
from trpts_lab.lvlm.scenes import N_TOKENS

PAIRS = {kind: questions_of("val", kind, 6) for kind in ("exist", "where", "relation")}
IMAGES = [scene.image for scene, _ in PAIRS["exist"]]


@pytest.fixture(scope="module")
def model():
    return create_lvlm(seed=1)


class Knowing:
    """Stands in for a model: gives the answers it was made with, in turn, and remembers what it was
    shown.
    """

    device = "cpu"

    def __init__(self, answers):
        self.answers, self.shown, self.n_words = iter(answers), [], []

    def generate(self, input_ids, pixel_values, max_new_tokens, **options):
        self.shown.append(pixel_values)
        self.n_words.append(max_new_tokens)
        words = torch.tensor([encode(next(self.answers)) for _ in input_ids])
        return torch.cat([input_ids, words], dim=1)


def test_the_seed_decides_the_weights_and_leaves_torch_alone(model):
    state = torch.get_rng_state()
    again, other = create_lvlm(seed=1), create_lvlm(seed=2)
    assert (torch.get_rng_state() == state).all()
    name = "lm_head.weight"
    assert torch.equal(again.state_dict()[name], model.state_dict()[name])
    assert not torch.equal(other.state_dict()[name], model.state_dict()[name])
    assert len(model.model.language_model.layers) >= 8  # room to prune behind layers 2, 3 and 4


def test_saved_and_loaded_weights_are_the_same_to_half_precision(model, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_lvlm(model, path)
    loaded = load_lvlm(path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float()), name
    assert loaded.weights_hash == file_hash(path)
    assert model.weights_hash is None
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_weights_of_another_architecture_are_refused(model, tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    save_lvlm(model, path)
    monkeypatch.setitem(lvlm.TEXT, "num_hidden_layers", 12)
    with pytest.raises(
        ValueError,
        match=r"holds weights of another architecture: text is .*8.* there, .*expects .*12",
    ):
        load_lvlm(path)
    write_tensors(path, {"x": torch.zeros(1)}, {})
    with pytest.raises(ValueError, match="another architecture: vision is not given there"):
        load_lvlm(path)
    monkeypatch.undo()
    write_tensors(path, {"x": torch.zeros(1)}, lvlm._architecture())
    with pytest.raises(ValueError, match="lacks weights of the model or holds others"):
        load_lvlm(path)


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"none\.safetensors does not exist: `trpts lvlm-train` makes it"
    ):
        load_lvlm(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(
        ValueError,
        match=r"text\.safetensors is not a file of weights that `trpts lvlm-train` wrote",
    ):
        load_lvlm(tmp_path / "text.safetensors")


def test_shorter_prompts_are_padded_on_the_left(model):
    questions = ["where is the red-circle ?", "is the red-circle left of the blue-square ?"]
    both = prompt(IMAGES[:2], questions)
    assert both["input_ids"].shape == (2, 1 + N_TOKENS + 8)
    assert (both["input_ids"][0, :3] == PAD_ID).all()
    assert both["input_ids"][0, -5:].tolist() == encode(questions[0])
    assert ((both["input_ids"] == IMAGE_ID).sum(1) == N_TOKENS).all()
    assert both["attention_mask"].sum(1).tolist() == [1 + N_TOKENS + 5, 1 + N_TOKENS + 8]
    assert both["pixel_values"].min() >= -1
    assert 0.5 <= both["pixel_values"].max() <= 1
    with torch.no_grad():
        alone = model(**prompt(IMAGES[:1], questions[:1])).logits[0, -1]
        assert torch.allclose(model(**both).logits[0, -1], alone, atol=1e-4)


def test_answers_depend_on_the_image_and_not_on_the_batch(model):
    questions = [question.words for kind in PAIRS for _, question in PAIRS[kind]]
    images = IMAGES * len(PAIRS)
    given = answer(model, images, questions)
    assert given == answer(model, images, questions, batch_size=4)
    with torch.no_grad():
        first, other = (
            model(**prompt([image], questions[:1])).logits[0, -1] for image in IMAGES[:2]
        )
    assert not torch.allclose(first, other, atol=1e-6)


def test_only_the_whole_answer_counts():
    right = [question.answer for _, question in PAIRS["where"]]
    half = [right[0], f"{right[1][0]}-{(int(right[1][2]) + 1) % 5}", *right[2:]]
    assert right_answers(Knowing(right), PAIRS["where"]).all()
    assert right_answers(Knowing(half), PAIRS["where"]).tolist() == [
        True,
        False,
        True,
        True,
        True,
        True,
    ]
    assert accuracy(Knowing(half), {"where": PAIRS["where"]}, batch_size=4) == {
        "where": pytest.approx(5 / 6)
    }


def test_one_word_costs_one_step_and_blank_images_are_grey():
    knowing = Knowing([question.answer for _, question in PAIRS["exist"]])
    right_answers(knowing, PAIRS["exist"])
    assert knowing.n_words == [1]
    assert torch.equal(knowing.shown[0], lvlm.pixels(IMAGES))
    blind = Knowing([question.answer for _, question in PAIRS["where"]])
    right_answers(blind, PAIRS["where"], blank=True)
    assert np.ptp(blind.shown[0].numpy()) == 0


def test_every_answer_is_one_word_of_the_model():
    assert {word for answers in ANSWERS.values() for word in answers} <= {*VOCABULARY}
