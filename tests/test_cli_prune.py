"""`trpts prune` on small random models of the three families: what it prints, draws and refuses."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from small_vlms import TEXT, picture, vlm

from trpts import ask, transprune
from trpts.cli import main
from trpts.data.reading import open_image
from trpts.plots import draw_kept, kept_patches
from trpts.transprune import Schedule
from trpts.transprune.costs import macs
from trpts.vlm import FAMILIES, image_view, load_vlm, prepare

QUESTION = "what colour ?"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{family: folder of a saved model}, and "image": a picture's path."""
    root = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        for part in vlm(family):
            part.save_pretrained(root / family)
    picture(90, 60).save(root / "noise.png")
    return {family: root / family for family in FAMILIES} | {"image": root / "noise.png"}


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


@pytest.mark.parametrize("family", FAMILIES)
def test_a_token_saw_its_rectangle(family):
    """Other pixels in rectangle (1, 2) of what is drawn reach one image token's pixels, and the
    right one's.
    """
    model, processor = vlm(family)
    width = 84 if family == "qwen2_5_vl" else 56  # the others crop or squash to a square
    image = picture(width, 56)
    view, rows, columns, first = image_view(
        model, processor, prepare(model, processor, image, "?"), image
    )
    x = [prepare(model, processor, image, "?")]
    changed = np.array(image)
    h, w = 56 // rows, width // columns
    changed[h + 4 : 2 * h - 4, 2 * w + 4 : 3 * w - 4] = (
        0  # resizing smears over a pixel's neighbours
    )
    x.append(prepare(model, processor, Image.fromarray(changed), "?"))
    a, b = (inputs["pixel_values"] for inputs in x)
    if family == "qwen2_5_vl":
        assert rows * columns == int((x[0]["input_ids"] == model.config.image_token_id).sum())
        tokens = (a != b).any(1).nonzero().flatten() // 4  # four rows are merged into one token
    else:
        a, b = (v[0, 0] if family == "llava_next" else v[0] for v in (a, b))
        patches = torch.nn.functional.unfold((a - b)[None], 7, stride=7)[0]  # [3·7·7, tokens]
        tokens = patches.abs().sum(0).nonzero().flatten()
        assert a.shape[1:] == view.shape[:2]
    assert set((tokens + first).tolist()) == {columns + 2}


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
    view = image_view(model, processor, prepare(model, processor, image, "?"), image)[0]
    np.testing.assert_allclose(view, np.asarray(image) / 255, atol=1e-6)


def test_view_of_llava_next_is_the_whole_picture():
    model, processor = vlm("llava_next")
    image = Image.fromarray(
        np.repeat(np.uint8([0] * 28 + [255] * 28), 3).reshape(1, 56, 3).repeat(56, 0)
    )
    view = image_view(model, processor, prepare(model, processor, image, "?"), image)[0]
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


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *((f, "high") for f in FAMILIES if f != "llava"),
        *(("llava", name) for name in ask.SCHEDULES),
    ],
)
def test_command_prints_and_draws(folders, tmp_path, capsys, monkeypatch, family, name):
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            [
                "prune",
                "--model",
                str(folders[family]),
                "--image",
                str(folders["image"]),
                "--question",
                QUESTION,
                "--schedule",
                name,
                "--new-tokens",
                "3",
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    n_image = {"llava": 16, "llava_next": 70, "qwen2_5_vl": 24}[family]
    plan = ask.schedule_named(name).scaled(TEXT["num_hidden_layers"])
    kept = ", ".join(
        f"{n} behind layer {p}" for n, p in zip(plan.n_kept(n_image), plan.prune_after, strict=True)
    )
    assert f"the model has 8 layers, not 32: {name} is scaled to its depth" in printed
    assert f"tokens: {n_image} of the image, " in printed
    assert f"kept: {kept}\n" in printed
    assert ("not the 54 of its enlarged tiles" in printed) == (family == "llava_next")
    assert printed.splitlines()[-1] == "noise.kept.png"
    with Image.open(tmp_path / "noise.kept.png") as drawn:
        assert drawn.width > 400


def test_comparison_asks_the_whole_model_and_the_pruned_one():
    # which words follow depends on what was kept
    model, processor = vlm("llava", initializer_range=0.5)
    inputs = prepare(model, processor, picture(), QUESTION)
    whole = ask.answer(model, processor, inputs, 8).text
    for keep in ((1.0, 1.0), (0.5, 0.25)):
        plan = Schedule((2, 3), keep, accumulate=(2,))
        with transprune.pruning(model, plan) as trace:
            pruned = ask.answer(model, processor, inputs, 8).text
        found = ask.compare(model, processor, inputs, plan, 8)
        assert (found.whole.text, found.pruned.text) == (whole, pruned)
        assert (pruned == whole) == (keep[0] == 1)
        assert [kept.tolist() for kept in found.kept] == [
            trace.kept[stage][0].tolist() for stage in (2, 3)
        ]
        # behind the image: what colour ? ASSISTANT : and before it: USER :
        for k, which in enumerate((None, plan)):
            assert found.macs["eq. 7"][k] == macs(
                model.config.text_config, 16, which, 7, n_instruction_tokens=5
            )
            assert found.macs["honest"][k] == macs(model.config.text_config, 16, which, 7, True, 5)


def test_patches_of_kept_tokens():
    kept = kept_patches(torch.tensor([0, 3, 6, 9]), 2, 3, first=1)
    assert kept.tolist() == [[False, False, True], [False, False, True]]
