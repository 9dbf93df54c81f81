"""`trpts prune` on a small random model of each family: what it prints, draws and refuses."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from small_vlms import BUILD, TEXT, picture, vlm
from transformers.models.smolvlm import processing_smolvlm

from trpts import ask, transprune
from trpts.cli import main
from trpts.data.reading import open_image
from trpts.plots import draw_kept, kept_patches
from trpts.transprune import Schedule
from trpts.transprune.costs import macs
from trpts.transprune.families import FAMILIES as REGISTERED
from trpts.transprune.families import anatomy, known
from trpts.vlm import load_vlm, prepare

QUESTION = "what colour ?"
FAMILIES = tuple(BUILD)
# of a picture of 90 × 60 pixels: image tokens, and how many of them cover it
TOKENS = {
    "llava": (16, 16),  # 4 × 4 patches of 28 × 28 pixels
    "pixtral": (12 * 8, 12 * 8),  # patches of 84 × 56
    "mistral3": (6 * 4, 6 * 4),  # 2 × 2 of these a token
    # 4 × 4 of the whole, and of 56 × 56 pixels 6 × 8, as two rows are padding, with 6 line ends
    "llava_next": (16 + 6 * 8 + 6, 16),
    "llava_onevision": (16 + 6 * 8 + 6, 16),
    "qwen2_vl": (6 * 4, 6 * 4),  # of 84 × 56 pixels, 14 × 14 a token
    "qwen2_5_vl": (6 * 4, 6 * 4),
    "qwen3_vl": (6 * 4, 6 * 4),
    "smolvlm": (3 * 2 * 4 + 4, 3 * 2 * 4),  # 3 × 2 tiles of 4 tokens, and the whole
    "idefics3": (3 * 2 * 4 + 4, 3 * 2 * 4),
    "internvl": (3 * 2 * 4 + 4, 4),  # the whole is drawn
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{family: folder of a saved model}, and "image": a picture's path."""
    root = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        for part in vlm(family):
            part.save_pretrained(root / family)
    picture(90, 60).save(root / "noise.png")
    return {family: root / family for family in FAMILIES} | {"image": root / "noise.png"}


def view_of(model, *given):
    return known(model.config.model_type).view(model, *given)


def refusal(capsys, *arguments):
    """The one sentence that a command ends with."""
    assert main(["prune", *map(str, arguments)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trpts: ")]
    return line


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_answers_as_before_it_was_saved(folders, family):
    texts = []
    for model, processor in (vlm(family), load_vlm(str(folders[family]))):
        inputs = prepare(model, processor, picture(), QUESTION)
        texts.append(ask.answer(model, processor, inputs, 4))
        with torch.no_grad():
            wanted = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert (
        texts[0].text == texts[1].text == processor.decode(wanted[0, -4:], skip_special_tokens=True)
    )
    assert texts[0].n_new == 4
    assert min(texts[1].prefill_s, texts[1].whole_s) > 0


def test_every_registered_family_is_tried():
    assert {vlm(family)[0].config.model_type for family in FAMILIES} == set(REGISTERED)


@pytest.mark.parametrize("family", FAMILIES)
def test_counts_of_image_tokens(family):
    model, processor = vlm(family)
    image = picture(90, 60)
    inputs = prepare(model, processor, image, QUESTION)
    n_image = int((inputs["input_ids"] == model.config.image_token_id).sum())
    assert (n_image, view_of(model, processor, inputs, image)[1].size) == TOKENS[family]


def embedded(model, processor, image):
    """What the language model gets in the image tokens' places, [n_image, D]."""
    inputs, seen = prepare(model, processor, image, "?"), {}
    text = anatomy(model).text
    handle = text.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    with handle, torch.no_grad():
        model(**inputs)
    return seen["inputs_embeds"][0][inputs["input_ids"][0] == model.config.image_token_id]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_token_saw_its_rectangle(family):
    """A vision tower without attention looks at each patch alone. Then other pixels in one
    rectangle of what is drawn change the embedding of one token in `places`, and it is the right
    one.
    """
    model, processor = vlm(family)
    mixes = re.compile(r"(attn|attention)\.(out_proj|o_proj|proj|projection_layer)\.")
    for name, p in model.named_parameters():
        if mixes.search(name) and "language_model" not in name and "text_model" not in name:
            p.data.zero_()
    # LLaVA's processors crop or squash to a square; InternVL's small view is one
    width = 56 if family.startswith(("llava", "internvl")) else 84
    image = picture(width, 56)
    places = view_of(model, processor, prepare(model, processor, image, "?"), image)[1]
    rows, columns = places.shape
    at = (1, min(2, columns - 1))
    changed, h, w = np.array(image), 56 // rows, width // columns
    m = min(4, h // 3)  # resizing smears over a pixel's neighbours; 7-pixel patches are not resized
    changed[h + m : 2 * h - m, at[1] * w + m : (at[1] + 1) * w - m] = 0
    a, b = (embedded(model, processor, x) for x in (image, Image.fromarray(changed)))
    tokens = (a != b).any(1).nonzero().flatten().numpy()
    assert set(tokens) & set(places.flat) == {places[at]}


def test_photo_stands_upright(tmp_path):
    note = Image.Exif()
    note[0x0112] = 6  # turned by a quarter
    picture(60, 40).save(tmp_path / "turned.jpg", exif=note)
    assert open_image(tmp_path / "turned.jpg", upright=True).size == (40, 60)


def test_damaged_chat_template():
    model, processor = vlm("qwen2_5_vl")
    processor.chat_template = "{% if %}"
    with pytest.raises(ValueError, match="chat template cannot be used"):
        prepare(model, processor, picture(), QUESTION)


def test_view_undoes_the_normalisation():
    model, processor = vlm("llava")
    image = picture(28, 28)
    view = view_of(model, processor, prepare(model, processor, image, "?"), image)[0]
    np.testing.assert_allclose(view, np.asarray(image) / 255, atol=1e-6)


def test_view_of_llava_next_is_the_whole_picture():
    model, processor = vlm("llava_next")
    image = Image.fromarray(
        np.repeat(np.uint8([0] * 28 + [255] * 28), 3).reshape(1, 56, 3).repeat(56, 0)
    )
    view = view_of(model, processor, prepare(model, processor, image, "?"), image)[0]
    assert view[:, :12].max() < 0.1
    assert view[:, 16:].min() > 0.9


def test_panels_are_grey_where_tokens_were_dropped():
    kept = torch.tensor([[True, False, True], [True, True, True]]).numpy()
    red = np.zeros((4, 6, 3))
    red[..., 0] = 1
    (axes,) = draw_kept(red, [("a", kept)]).axes
    drawn = axes.images[0].get_array()
    np.testing.assert_array_equal(drawn[:2, [0, 1, 4, 5]], red[:2, [0, 1, 4, 5]])
    np.testing.assert_array_equal(drawn[2:], red[2:])
    assert np.ptp(drawn[:2, 2:4]) == 0
    assert drawn[0, 3, 1] > 0.7


def without(folder, copy, *names, **changed):
    """A copy of a model's folder without the named files, others overwritten."""
    shutil.copytree(folder, copy)
    for name in names:
        (copy / name).unlink()
    for name, text in changed.items():
        (copy / f"{name}.json").write_text(text)
    return copy


@pytest.mark.parametrize(
    ("gone", "changed", "says"),
    [
        (
            ["config.json"],
            {},
            "holds no config.json: expected the folder of a vision-language model",
        ),
        (
            [],
            {"config": "[1]"},
            "config.json cannot be read|is of the type None: expected a vision-language model",
        ),
        (
            [],
            {"config": '{"model_type": ["llava"]}'},
            r"is of the type \['llava'\]|config.json cannot be read",
        ),
        (
            [],
            {"config": '{"model_type": "bert"}'},
            "is of the type 'bert': expected a vision-language model, one of",
        ),
        ([], {"config": "{"}, "config.json cannot be read"),
        (["model.safetensors"], {}, "the weights cannot be read: .*expected all its files there"),
        (
            ["processor_config.json"],
            {},
            "the processor cannot be read: .*expected all its files there",
        ),
        (["tokenizer.json"], {}, "the processor cannot be read: .*expected all its files there"),
    ],
)
def test_a_folder_that_lacks_something(folders, tmp_path, capsys, monkeypatch, gone, changed, says):
    monkeypatch.chdir(tmp_path)
    model = without(folders["llava"], tmp_path / "model", *gone, **changed)
    line = refusal(capsys, "--model", model, "--image", folders["image"], "--question", QUESTION)
    assert re.search(says, line)
    assert str(model) in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]


OLDER = ("patch_size", "vision_feature_select_strategy", "num_additional_image_tokens")


@pytest.mark.parametrize("family", ["llava", "llava_next"])
@pytest.mark.parametrize("lacks", [OLDER[:1], OLDER[:2], OLDER[:2][::-1], OLDER])
def test_a_processor_of_older_folders(folders, tmp_path, family, lacks):
    """Nothing there says how many patches an image has; the model's configuration does."""
    path = folders[family] / "processor_config.json"
    said = {name: x for name, x in json.loads(path.read_text()).items() if name not in lacks}
    older = without(folders[family], tmp_path / "model", processor_config=json.dumps(said))
    wanted, found = (
        prepare(*load_vlm(str(folder)), picture(), QUESTION) for folder in (folders[family], older)
    )
    assert torch.equal(found["input_ids"], wanted["input_ids"])
    assert torch.equal(found["pixel_values"], wanted["pixel_values"])


@pytest.mark.parametrize(
    "changed",
    [
        {"patch_size": "four"},
        {"patch_size": 0},
        {"patch_size": -4},
        {"num_additional_image_tokens": "one"},
        {"num_additional_image_tokens": 5},
        {"vision_feature_select_strategy": 3},
        {"image_processor": {"image_mean": [0.5]}},
        {"image_processor": {"image_std": [0, 0, 0]}},
        {"image_processor": {"size": {"height": -1, "width": -1}}},
        {"image_processor": {"size": {"shortest_edge": 10**9}}},
        {"image_processor": {"crop_size": {"height": 3, "width": 5}}},
        {"image_processor": {"rescale_factor": "x"}},
        {"image_processor": {"resample": 99}},
        {"image_processor": 3},
        {"image_processor": {"image_processor_type": "None"}},
        {"processor_class": "Qwen2_5_VLProcessor"},
        {"image_token": ""},
        {"image_token": 7},
    ],
)
def test_a_processor_that_says_anything(folders, tmp_path, capsys, monkeypatch, changed):
    """One sentence, or answers as good as any: what another library raises reaches nobody."""
    monkeypatch.chdir(tmp_path)
    path = folders["llava"] / "processor_config.json"
    said = json.loads(path.read_text())
    for name, value in changed.items():
        both = isinstance(value, dict) and isinstance(said.get(name), dict)
        said[name] = said[name] | value if both else value
    model = without(folders["llava"], tmp_path / "model", processor_config=json.dumps(said))
    status = main(
        [
            *("prune", "--model", str(model), "--image", str(folders["image"])),
            *("--question", QUESTION, "--new-tokens", "1"),
        ]
    )
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trpts: ")]
    assert (status, len(said)) in ((0, 0), (2, 1))


@pytest.mark.parametrize("file", ["config", "generation_config", "tokenizer_config", "tokenizer"])
@pytest.mark.parametrize(
    "changed",
    [
        {"text_config": 3},
        {"text_config": []},
        {"vision_config": 3},
        {"vision_config": {}},
        {"vision_feature_layer": 99},
        {"vision_feature_select_strategy": "some"},
        {"image_token_index": 10**6, "image_token_id": 10**6},
        {"image_token_index": "x"},
        {"torch_dtype": "float17", "dtype": "float17"},
        {"dtype": 3, "torch_dtype": 3},
        {"architectures": ["Nothing"]},
        {"eos_token_id": "x", "pad_token_id": -5},
        {"max_length": -1, "max_new_tokens": -1, "num_beams": 0},
        {"tokenizer_class": "Nothing"},
        {"model": None, "added_tokens": 3},
        {"chat_template": "{{ nothing.at.all }}"},
    ],
)
def test_other_files_that_say_anything(folders, tmp_path, capsys, monkeypatch, file, changed):
    monkeypatch.chdir(tmp_path)
    path = folders["llava"] / f"{file}.json"
    said = json.loads(path.read_text()) | changed
    model = without(folders["llava"], tmp_path / "model", **{file: json.dumps(said)})
    status = main(
        [
            *("prune", "--model", str(model), "--image", str(folders["image"])),
            *("--question", QUESTION, "--new-tokens", "1"),
        ]
    )
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trpts: ")]
    assert (status, len(said)) in ((0, 0), (2, 1))


EVIL = "import pathlib; pathlib.Path('ran').touch()\nclass Evil: pass\n"
MAPPED = {"auto_map": {"AutoProcessor": "evil.Evil", "AutoImageProcessor": "evil.Evil"}}


@pytest.mark.parametrize(
    ("gone", "file", "content"),
    [
        ([], "processor_config", {"processor_class": "Evil"}),
        ([], "processor_config", {"image_processor": {"image_processor_type": "Evil", **MAPPED}}),
        (["processor_config.json"], "preprocessor_config", {"processor_class": "Evil"}),
        (["processor_config.json"], "tokenizer_config", {"processor_class": "Evil"}),
    ],
)
def test_code_of_a_model_is_not_run(folders, tmp_path, capsys, monkeypatch, gone, file, content):
    """Transformers asks whether to run it; here nobody is asked, and a "y" that is waiting does
    nothing.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda _: "y")
    model = without(folders["llava"], tmp_path / "model", *gone)
    path = model / f"{file}.json"
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(before | MAPPED | content))
    (model / "evil.py").write_text(EVIL)
    line = refusal(capsys, "--model", model, "--image", folders["image"], "--question", QUESTION)
    assert not (tmp_path / "ran").exists()
    assert (
        "model: the processor cannot be read without running program code that comes with the model"
        in line
    )


def test_another_library_s_message_is_cut(folders, tmp_path, capsys, monkeypatch):
    """Transformers answers an unknown type with the names of all that it knows, 11,000
    characters.
    """
    monkeypatch.chdir(tmp_path)
    model = without(
        folders["llava"],
        tmp_path / "model",
        config='{"model_type": "llava", "text_config": {"model_type": "unheard"}}',
    )
    line = refusal(capsys, "--model", model, "--image", folders["image"], "--question", QUESTION)
    assert "unheard" in line
    assert len(line) < 400 + len(str(model))


def test_the_photo_is_not_drawn_over(folders, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    shutil.copy(folders["image"], photo)
    before = photo.read_bytes()
    line = refusal(
        capsys,
        "--model",
        folders["llava"],
        "--image",
        photo,
        "--question",
        QUESTION,
        "--out",
        photo,
    )
    assert "photo.png is the image itself: expected another name" in line
    assert photo.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]


def test_weights_that_lack_tensors_are_not_made_up(folders, tmp_path):
    model = without(folders["llava"], tmp_path / "model", "model.safetensors")
    state = {
        name: t.clone()
        for name, t in vlm("llava")[0].state_dict().items()
        if "layers.3.mlp.up" not in name
    }
    save_file(state, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ValueError,
        match=r"the weights lack 1 tensors, .*layers\.3\.mlp\.up_proj\.weight among them",
    ):
        load_vlm(str(model))


def test_without_transformers_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"install it with pip install trpts\[vlm\]"):
        load_vlm("some/model")


def test_a_name_that_was_not_downloaded(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = refusal(
        capsys, "--model", "some/model", "--image", folders["image"], "--question", QUESTION
    )
    assert "`hf download some/model`" in line


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"--schedule": "medium"},
            "schedule 'medium' is unknown: expected one of high, low, paper",
        ),
        ({"--question": "  "}, "the question is '  ': expected some text"),
        (
            {"--question": "<image>?"},
            "the question is '<image>\\?': expected some text, and <image> not in it",
        ),
        ({"--image": "gone.png"}, "gone.png does not exist: expected an image file"),
        ({"--image": "text.png"}, "text.png is not an image"),
        ({"--image": "cut.png"}, "cut.png is a damaged image"),
        ({"--out": "picture.jpg"}, "picture.jpg: expected a name that ends in .png"),
        ({"--out": "nowhere/picture.png"}, "nowhere/picture.png cannot be written"),
        ({"--new-tokens": "0"}, "--new-tokens: expected a whole number from 1"),
    ],
)
def test_what_the_command_refuses(folders, tmp_path, capsys, monkeypatch, changed, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(folders["image"].read_bytes()[:2000])
    arguments = {
        "--model": folders["llava"],
        "--image": folders["image"],
        "--question": QUESTION,
    } | changed
    assert re.search(says, refusal(capsys, *(part for pair in arguments.items() for part in pair)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.png", "text.png"]


def ask_of(folders, *more, family="llava"):
    """Arguments of `trpts prune`."""
    paths = {"--model": folders[family], "--image": folders["image"], "--question": QUESTION}
    return ["prune", *(str(part) for pair in paths.items() for part in pair), *more]


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *((f, "high") for f in FAMILIES if f != "llava"),
        *(("llava", name) for name in ask.SCHEDULES),
        ("smolvlm", "sparsevlm"),
        ("qwen3_vl", "cdpruner"),
    ],
)
def test_command_prints_and_draws(folders, tmp_path, capsys, monkeypatch, family, name):
    monkeypatch.chdir(tmp_path)
    assert main(ask_of(folders, "--schedule", name, "--new-tokens", "3", family=family)) == 0
    printed = capsys.readouterr().out
    n_image, n_drawn = TOKENS[family]
    plan = ask.schedule_named(name).scaled(TEXT["num_hidden_layers"])
    kept = ", ".join(
        f"{n} behind layer {p}" for n, p in zip(plan.n_kept(n_image), plan.prune_after, strict=True)
    )
    assert f"the model has 8 layers, not 32: {name} is scaled to its depth" in printed
    assert f"tokens: {n_image} of the image, " in printed
    assert f"kept: {kept}\n" in printed
    others = f"drawn are {n_drawn} image tokens, which cover the picture, not the"
    assert (f"{others} {n_image - n_drawn} others" in printed) == (n_drawn < n_image)
    assert ("weighted parts of the score behind layer" in printed) == (plan.score == "transprune")
    assert printed.splitlines()[-1] == "noise.kept.png"
    with Image.open(tmp_path / "noise.kept.png") as drawn:
        assert drawn.width > 400


def test_criterion_that_a_family_does_not_have(folders, tmp_path, capsys, monkeypatch):
    """It is refused before the model is asked, which may take minutes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ask, "answer", lambda *_: pytest.fail("asked"))
    assert main(ask_of(folders, "--schedule", "visionzip", family="smolvlm")) == 2
    assert "score='visionzip' on a SmolVLMForConditionalGeneration" in capsys.readouterr().err


def test_several_questions_and_json(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    questions = ("--question", "red ?", "--new-tokens", "2")
    assert main(ask_of(folders, *questions)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main(ask_of(folders, *questions, "--json")) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)  # one document, and nothing else
    assert "is scaled to its depth" in captured.err
    assert [q["question"] for q in found["questions"]] == [QUESTION, "red ?"]
    names = ["noise.kept.png", "noise.kept-2.png"]
    assert [q["picture"] for q in found["questions"]] == names
    assert [line for line in lines if line in names] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    said = [line.split(": ", 1)[1] for line in lines if line.startswith(("all tok", "pruned"))]
    model, processor = load_vlm(str(folders["llava"]))
    plan = transprune.HIGH.scaled(8)
    for q, question in zip(found["questions"], (QUESTION, "red ?"), strict=True):
        assert [repr(q[name]["text"]) for name in ("whole", "pruned")] == said[:2]
        said = said[2:]
        with transprune.pruning(model, plan) as trace:
            model(**prepare(model, processor, open_image(folders["image"]), question))
        assert q["kept"] == [rows[0].tolist() for rows in trace.kept.values()]
        assert q["n_kept"] == plan.n_kept(16)
        assert q["schedule"]["prune_after"] == list(plan.prune_after)
        assert q["smaller"]["said"] is None
        assert min(q["whole"]["prefill_s"], q["pruned"]["whole_s"]) > 0
        assert set(q["macs"]) == {"eq. 7", "honest"}


@pytest.mark.parametrize("normalise", [False, True, "rank"])
def test_scales_are_of_what_the_score_adds_up(normalise):
    """Scores are their sum: the mean of one is the sum of means."""
    model, processor = vlm("qwen2_5_vl")
    plan = Schedule((2, 4), (0.5, 0.25), accumulate=(1, 2), alpha=0.75, normalise=normalise)
    found = ask.compare(model, processor, picture(90, 60), QUESTION, plan, 1)
    with transprune.pruning(model, plan) as trace:
        model(**prepare(model, processor, picture(90, 60), QUESTION))
    for stage, parts in zip((2, 4), found.scales, strict=True):
        mean = sum(mean for mean, _ in parts.values())
        assert mean == pytest.approx(float(trace.scores[stage][0].nanmean()), rel=1e-4)
        n = int((~trace.scores[stage][0].isnan()).sum())
        if normalise:  # sums of 1, or ranks from 0 to 1, times the weight
            each = 1 / n if normalise is True else 1 / 2
            assert parts["ttv"][0] == pytest.approx(0.75 * each, rel=1e-4)
            assert parts["iga"][0] == pytest.approx(0.25 * each, rel=1e-4)


def kept_at_once(share):
    """A schedule without overhead: so many of the image tokens enter the first layer, by chance."""
    return Schedule((0,), (share,), score="random")


@pytest.mark.parametrize(
    ("family", "image", "share", "size", "n_image"),
    [
        # 14 × 14 pixels a token: of 98 × 70, 7 × 5 = 35; 17 stay, as many as 5 × 3 = 15 or less.
        # 68 × 49 pixels are 5 × 4: 49 / 14 is 3.5, rounded to 4
        ("qwen2_5_vl", (98, 70), 0.5, (67, 48), 15),
        # as wide as high, 6 × 6 = 36: 9 stay, 3 × 3; 49 / 14 is 3.5, rounded to 4
        ("qwen3_vl", (84, 84), 0.25, (48, 48), 9),
        # 7 × 7 pixels a token, rounded up: of 84 × 56, 12 × 8 = 96; 24 stay. 42 × 28 is 6 × 4
        ("pixtral", (84, 56), 0.25, (42, 28), 24),
        # 3 × 2 tiles and the whole: 7 · 4 tokens. Of 28, 21 stay: 2 × 2 tiles and the whole are 20
        ("smolvlm", (84, 56), 0.75, (56, 37), 20),
        # 14 stay: one tile
        ("idefics3", (84, 56), 0.5, (28, 19), 4),
        # its tiles follow the shape; of a square 2 × 2 and the whole, 20 tokens, or one tile, 4
        ("internvl", (56, 56), 0.5, (39, 39), 4),
    ],
)
def test_a_smaller_picture_of_equal_cost(family, image, share, size, n_image):
    model, processor = vlm(family)
    original = picture(*image)
    found = ask.compare(model, processor, original, QUESTION, kept_at_once(share), 1)
    small, budget = found.smaller, found.macs["honest"][1]
    assert (small.size, small.n_image) == (size, n_image)
    assert small.macs <= budget
    options = {"size": {"longest_edge": size[0]}} if family in ("smolvlm", "idefics3") else {}
    copy = prepare(model, processor, original.resize(size), QUESTION, **options)
    assert small.said.text == ask.answer(model, processor, copy, 1).text
    lines = "\n".join(found.lines())
    of = "{} x {}".format(*small.whole)
    told = f"smaller picture, {size[0]} x {size[1]} pixels of {of}, {n_image} image tokens: "
    assert told in lines
    assert max(small.whole) > max(size)
    if family not in ("smolvlm", "idefics3"):  # which first enlarge every picture
        assert small.whole == original.size
    assert f"; smaller picture {small.macs:.3e}" in lines


@pytest.mark.parametrize(("family", "n_image"), [("llava", 16), ("llava_next", 32)])
def test_no_smaller_picture_costs_as_little(family, n_image):
    """LLaVA-1.5's count is fixed; LLaVA-NeXT's smallest has its whole view and a tile or more."""
    model, processor = vlm(family)
    found = ask.compare(model, processor, picture(56, 56), QUESTION, kept_at_once(0.1), 1)
    assert found.smaller.said is None
    assert found.smaller.n_image >= n_image
    assert (
        "no smaller picture costs as little: the smallest copy tried, 16 x 16 pixels of 56 x 56, "
        f"has {found.smaller.n_image} image tokens"
    ) in list(found.lines())


def test_a_package_that_a_processor_needs(folders, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    assert main(ask_of(folders, family="smolvlm")) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("Install it with `pip install num2words`")
    assert "the processor cannot be read: Package `num2words` is required" in line


def test_comparison_asks_the_whole_model_and_the_pruned_one():
    # which words follow depends on what was kept
    model, processor = vlm("llava", initializer_range=0.5)
    inputs = prepare(model, processor, picture(), QUESTION)
    whole = ask.answer(model, processor, inputs, 8).text
    for keep in ((1.0, 1.0), (0.5, 0.25)):
        plan = Schedule((2, 3), keep, accumulate=(2,))
        with transprune.pruning(model, plan) as trace:
            pruned = ask.answer(model, processor, inputs, 8).text
        found = ask.compare(model, processor, picture(), QUESTION, plan, 8)
        assert (found.whole.text, found.pruned.text) == (whole, pruned)
        assert (pruned == whole) == (keep[0] == 1)
        assert found.kept == [trace.kept[stage][0].tolist() for stage in (2, 3)]
        # behind the image: what colour ? ASSISTANT : and before it: USER :
        for k, which in enumerate((None, plan)):
            assert found.macs["eq. 7"][k] == macs(
                model.config.text_config, 16, which, 7, n_instruction_tokens=5
            )
            assert found.macs["honest"][k] == macs(model.config.text_config, 16, which, 7, True, 5)


def test_patches_of_kept_tokens():
    places = np.array([[1, 2, 3], [4, 5, 6]])
    for kept in (torch.tensor([0, 3, 6, 9]), [0, 3, 6, 9]):
        assert kept_patches(kept, places).tolist() == [[False, False, True], [False, False, True]]
