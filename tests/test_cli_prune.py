"""`trpts prune` on small random models of the three families: what it prints, draws and refuses."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from small_vlms import TEXT, picture, vlm

from trpts import ask
from trpts.cli import main
from trpts.lab.kept import draw_kept

QUESTION = "what colour ?"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{family: folder of a saved model}, and "image": a picture's path."""
    root = tmp_path_factory.mktemp("models")
    for family in ask.FAMILIES:
        for part in vlm(family):
            part.save_pretrained(root / family)
    picture().save(root / "noise.png")
    return {family: root / family for family in ask.FAMILIES} | {"image": root / "noise.png"}


def refusal(capsys, *arguments):
    """The one sentence that a command ends with."""
    assert main(["prune", *map(str, arguments)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trpts: ")]
    return line


@pytest.mark.parametrize("family", ask.FAMILIES)
def test_a_saved_model_answers_as_before_it_was_saved(folders, family):
    texts = []
    for model, processor in (vlm(family), ask.load_vlm(str(folders[family]))):
        inputs = ask.prepare(model, processor, picture(), QUESTION)
        texts.append(ask.answer(model, processor, inputs, 4))
        with torch.no_grad():
            wanted = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert texts[0].text == texts[1].text == processor.decode(wanted[0, -4:], skip_special_tokens=True)
    assert texts[0].n_new == 4
    assert 0 < texts[1].prefill_s < texts[1].whole_s


@pytest.mark.parametrize("family", ask.FAMILIES)
def test_a_token_saw_its_rectangle(family):
    """Other pixels in rectangle (1, 2) of what is drawn reach one image token's pixels, and the right one's."""
    model, processor = vlm(family)
    image = picture(56, 56)
    view, rows, columns, first = ask.image_view(model, processor, ask.prepare(model, processor, image, "?"), image)
    x = [ask.prepare(model, processor, image, "?")]
    changed = np.array(image)
    h, w = 56 // rows, 56 // columns
    changed[h + 4 : 2 * h - 4, 2 * w + 4 : 3 * w - 4] = 0  # resizing smears over a pixel's neighbours
    x.append(ask.prepare(model, processor, Image.fromarray(changed), "?"))
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


def test_view_undoes_the_normalisation():
    model, processor = vlm("llava")
    image = picture(28, 28)
    view = ask.image_view(model, processor, ask.prepare(model, processor, image, "?"), image)[0]
    np.testing.assert_allclose(view, np.asarray(image) / 255, atol=1e-6)


def test_panels_are_grey_where_tokens_were_dropped():
    kept = torch.tensor([[True, False], [True, True]]).numpy()
    red = np.zeros((4, 6, 3))
    red[..., 0] = 1
    (axes,) = draw_kept(red, [("a", kept)]).axes
    drawn = axes.images[0].get_array()
    np.testing.assert_array_equal(drawn[:2, :3], red[:2, :3])
    np.testing.assert_array_equal(drawn[2:], red[2:])
    assert np.ptp(drawn[:2, 3:]) == 0
    assert drawn[0, 3, 0] > 0.7
