"""What families add: rows of text, several images, video frames, DeepStack, odd models and inputs.

That each family equals a slow reference, in batches, caches and beams, is in
`test_transprune_plugin.py`.
"""

import copy
from dataclasses import replace

import pytest
import torch
from test_transprune_plugin import CODE, SAME, S, generate, last, reference
from vlms import (
    FAMILIES,
    IMAGE,
    QWEN,
    VIDEO,
    WITH_VIDEO,
    instruction_of,
    pixels_of,
    prompt,
    rows,
    text_row,
    together,
    video,
    vlm,
)

from trpts.transprune import RELEASED_CODE, Schedule, families, pruning
from trpts.transprune.prompt import frames_of

EACH = replace(S, frames="each")


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("schedule", [S, CODE], ids=["paper", "code"])
def test_a_row_of_text_beside_images_is_left_alone(family, schedule):
    model, alone = vlm(family), [text_row(family), *rows(family)]
    with pruning(model, schedule) as trace:
        found = generate(model, together(alone))
        assert trace.n_image[0] == 0
        assert trace.kept[5][0].tolist() == []
        for i, row in enumerate(alone[1:], start=1):
            one = generate(model, row)
            assert torch.equal(one.sequences[0, -4:], found.sequences[i, -4:])
    untouched = generate(model, alone[0])
    for a, b in zip(found.logits, untouched.logits, strict=True):
        torch.testing.assert_close(a[0], b[0], **SAME)


def several(family, n=2):
    """A row with so many images, text between them."""
    g = torch.Generator().manual_seed(7)
    images = [pixels_of(family, 0, g) for _ in range(n)]
    tokens = [1]
    for number, (each, _) in enumerate(images):
        tokens += [*each, 50 + number]
    inputs = {name: torch.cat([inputs[name] for _, inputs in images]) for name in images[0][1]}
    if family in ("smolvlm", "idefics3"):  # tiles of all images of a row stand side by side
        inputs["pixel_values"] = torch.cat([i["pixel_values"] for _, i in images], 1)
    return prompt(family, [*tokens, 20, 21], **inputs)


@pytest.mark.parametrize("family", FAMILIES)
def test_several_images_equal_the_slow_reference(family):
    """Tokens of all images of a row are ranked together; the instruction stands behind the last."""
    model, row = vlm(family, "eager"), several(family)
    kept, wanted = reference(model, row, S)
    with pruning(model, S) as trace:
        torch.testing.assert_close(last(model, row), wanted, **SAME)
        assert all(torch.equal(trace.kept[stage][0], kept[stage]) for stage in S.prune_after)
        cached = generate(model, row)
    with pruning(model, S, instruction=instruction_of(row)):
        anew = generate(model, row, use_cache=False)
    assert torch.equal(anew.sequences, cached.sequences)


@pytest.mark.parametrize("family", WITH_VIDEO)
def test_video_tokens_equal_the_slow_reference(family):
    model, row = vlm(family, "eager"), video(family)
    kept, wanted = reference(model, row, S)
    with pruning(model, S) as trace:
        torch.testing.assert_close(last(model, row), wanted, **SAME)
        assert all(torch.equal(trace.kept[stage][0], kept[stage]) for stage in S.prune_after)


@pytest.mark.parametrize("family", WITH_VIDEO)
def test_of_each_frame_as_many_stay(family):
    """4 tokens a frame (and LLaVA-OneVision's newline, in the last): 3, 2, 1 of each."""
    model, row = vlm(family), video(family)
    with pruning(model, EACH) as trace:
        written = generate(model, row)
    with pruning(model, EACH, instruction=instruction_of(row)):
        anew = generate(model, row, use_cache=False)  # reads the video once, for several passes
    assert torch.equal(anew.sequences, written.sequences)
    of_frame = torch.arange(trace.n_image[0]).div(4, rounding_mode="floor").clamp_max(2)
    for stage, n in zip(EACH.prune_after, (3, 2, 1), strict=True):
        assert of_frame[trace.kept[stage][0]].bincount().tolist() == [n, n, n]
    with pruning(model, S) as trace:
        generate(model, row)
    counts = of_frame[trace.kept[2][0]].bincount(minlength=3).tolist()
    assert sum(counts) == int(0.75 * trace.n_image[0])


@pytest.mark.parametrize("family", WITH_VIDEO)
@pytest.mark.parametrize("schedule", [S, EACH], ids=["all", "each"])
def test_a_batch_of_video_image_and_text_equals_its_rows(family, schedule):
    model = vlm(family)
    alone = [video(family), rows(family)[1], video(family, 3), text_row(family)]
    with pruning(model, schedule) as trace:
        found = generate(model, together(alone))
        kept = trace.kept
        for i, row in enumerate(alone[:3]):
            one = generate(model, row)
            torch.testing.assert_close(one.logits[0][0], found.logits[0][i], **SAME)
            assert torch.equal(one.sequences[0, -4:], found.sequences[i, -4:])
            assert all(torch.equal(trace.kept[s][0], kept[s][i]) for s in S.prune_after)
        beams = generate(model, together(alone), num_beams=2)
    assert beams.sequences.shape[0] == 4


def test_frames_by_hand():
    """Rows: runs of 7 and of 2 tokens; a run of 2. They have 3, 2 and 1 frames: 2, 2 and 3 tokens,
    1 and 1, and 2.
    """
    video = torch.tensor([[0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1], [0] * 8 + [1, 1, 0]]).bool()
    wanted = [[0, 1, 1, 2, 2, 3, 3, 3, 0, 4, 5], [0] * 8 + [1, 1, 0]]
    assert frames_of(video, [3, 2, 1]).tolist() == wanted
    twice = frames_of(video.repeat_interleave(2, dim=0), [3, 2, 1])
    assert twice.tolist() == [wanted[0], wanted[0], wanted[1], wanted[1]]
    with pytest.raises(ValueError, match="the prompt has 3 runs of video tokens: expected 2"):
        frames_of(video, [3, 2])
    assert frames_of(torch.ones(1, 1).bool(), [2]).tolist() == [[1]]  # fewer tokens than frames


def test_frames_of_a_video_that_was_not_read():
    model, row = vlm("qwen"), video("qwen")
    seen = model.model.get_video_features(
        row.pop("pixel_values_videos"), row["video_grid_thw"], return_dict=True
    )
    with pruning(model, EACH), pytest.raises(ValueError, match="expected pixel_values_videos"):
        last(model, row | {"mm_encoder_outputs": {"video": seen}})
    assert "get_video_features" not in vars(model.model)


@pytest.mark.parametrize("stages", [(0, 1, 2), (1, 2, 3), (2, 3, 5)])
def test_deepstack_features_follow_the_kept_tokens(stages):
    """Qwen3-VL adds features behind layers 1, 2 and 3, here in front of, among and behind stages"""
    model = vlm("qwen3", "eager")
    score = "iga" if stages[0] == 0 else "transprune"
    schedule = Schedule(stages, (0.75, 0.5, 0.25), accumulate=(1, 2, 3), score=score)
    for row in (*rows("qwen3"), video("qwen3")):
        with pruning(model, schedule) as trace:
            found = last(model, row)
        if stages[0]:
            kept, wanted = reference(model, row, schedule)
            assert all(torch.equal(trace.kept[s][0], kept[s]) for s in stages)
            torch.testing.assert_close(found, wanted, **SAME)
    both = together([rows("qwen3")[0], video("qwen3"), text_row("qwen3")])
    with pruning(model, schedule):
        batch = last(model, both)
        torch.testing.assert_close(last(model, rows("qwen3")[0])[0], batch[0], **SAME)
        torch.testing.assert_close(last(model, video("qwen3"))[0], batch[1], **SAME)


def test_deepstack_matters():
    """Without its features the model says something else: the test above is not idle."""
    model, row = vlm("qwen3"), rows("qwen3")[0]
    with pruning(model, S):
        wanted = last(model, row)
    silent = copy.deepcopy(model)
    vars(silent.model.language_model)["_deepstack_process"] = lambda hidden, mask, features: hidden
    with pruning(silent, replace(S, prune_after=(1, 2, 3))):
        a = last(silent, row)
    with pruning(model, replace(S, prune_after=(1, 2, 3))):
        b = last(model, row)
    assert not torch.allclose(a, b, atol=1e-2)
    assert not torch.equal(b, wanted)


def test_an_image_of_one_token_is_a_sentence_or_stays():
    model = vlm("qwen2")
    row = prompt(
        "qwen2",
        [1, 7, IMAGE, 8, 20, 21],
        pixel_values=torch.randn(4, 48),
        image_grid_thw=torch.tensor([[1, 2, 2]]),
    )
    with pruning(model, S), pytest.raises(ValueError, match=r"keep=0.75 of 1 image tokens"):
        last(model, row)
    with pruning(model, Schedule((2,), (1.0,))) as trace:
        last(model, row)
    assert trace.kept[2][0].tolist() == [0]


@pytest.mark.parametrize("family", FAMILIES)
def test_more_images_than_placeholders_is_the_models_own_sentence(family):
    row = several(family)
    row["input_ids"] = rows(family)[0]["input_ids"]
    row["attention_mask"] = torch.ones_like(row["input_ids"])
    if family in QWEN:
        row["mm_token_type_ids"] = (row["input_ids"] == IMAGE).int()
    # Qwen's models count images in their positions before they compare tokens with features
    kinds = (ValueError, StopIteration, IndexError) if family in QWEN else ValueError
    with pruning(vlm(family), S), pytest.raises(kinds):
        last(vlm(family), row)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_on_a_cpu(family, kind):
    model, row = copy.deepcopy(vlm(family)).to(kind), rows(family)[0]
    row["pixel_values"] = row["pixel_values"].to(kind)
    with pruning(model, CODE) as trace:
        assert generate(model, row).logits[0].isfinite().all()
    assert trace.scores[5][0].dtype == torch.float32


def test_quantised_linears():
    """Products of eight-bit weights: q and k of the scores come from the same."""
    model, row = copy.deepcopy(vlm("llava")), rows("llava")[0]
    text = model.model.language_model
    model.model.language_model = torch.ao.quantization.quantize_dynamic(
        text, {torch.nn.Linear}, dtype=torch.qint8
    )
    untouched = generate(model, row)
    with pruning(model, replace(S, keep=(1, 1, 1))):
        assert torch.equal(generate(model, row).sequences, untouched.sequences)
    with pruning(model, S) as trace:
        generate(model, row)
    assert [len(trace.kept[s][0]) for s in S.prune_after] == [12, 8, 4]


@pytest.mark.parametrize("kind", families.REFUSED)
def test_kinds_that_cannot_be_pruned_say_why(kind):
    with pytest.raises(ValueError, match=f"of the type '{kind}', which cannot be pruned: "):
        families.known(kind)
    for other in ("bert", None, 3):
        with pytest.raises(ValueError, match=r"of the type .*: expected a vision-language model"):
            families.known(other)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in WITH_VIDEO])
def test_frames_are_refused_where_there_are_no_video_tokens(family):
    with (
        pytest.raises(ValueError, match="which has no video tokens: expected 'all'"),
        pruning(vlm(family), EACH),
    ):
        pass


def test_an_image_behind_and_before_a_video_is_a_group_of_its_own():
    """Tokens of images are chosen among each other, those of each frame among theirs."""
    model, clip = vlm("qwen"), video("qwen")
    tokens, inputs = pixels_of("qwen", 2, torch.Generator().manual_seed(1))
    ids = clip["input_ids"][0].tolist()
    for order in ([1, *tokens, *ids[1:]], [*ids[:-2], *tokens, *ids[-2:]]):
        videos = {name: clip[name] for name in ("pixel_values_videos", "video_grid_thw")}
        row = prompt("qwen", order, **inputs, **videos)
        with pruning(model, EACH) as trace:
            generate(model, row)
        is_image = [t == IMAGE for t in order if t in (IMAGE, VIDEO)]
        assert sum(is_image[n] for n in trace.kept[5][0].tolist()) == 2  # a quarter of 8
        assert len(trace.kept[5][0]) == 2 + 3 * 1


def test_a_row_of_text_may_have_no_instruction():
    model, alone = vlm("llava"), [text_row("llava"), rows("llava")[0]]
    batch = together(alone)
    asks = instruction_of(batch)
    asks[0] = False
    with pruning(model, S, instruction=asks):
        found = last(model, batch)
    with pruning(model, S):
        torch.testing.assert_close(last(model, alone[1])[0], found[1], **SAME)


def test_a_method_of_the_users_own_stays():
    model = copy.deepcopy(vlm("llava"))
    own = model.prepare_inputs_for_generation
    model.prepare_inputs_for_generation = own
    with pruning(model, S):
        assert vars(model)["prepare_inputs_for_generation"] is not own
    assert vars(model)["prepare_inputs_for_generation"] is own


def test_parts_of_another_shape_are_a_sentence():
    def own(c):
        c.parts["half"] = c.ttv[:, :2]
        return c.ttv

    with pruning(vlm("llava"), replace(S, score=own)), pytest.raises(ValueError, match=r"are \["):
        last(vlm("llava"), rows("llava")[0])


def test_gemma3_says_why():
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    small = dict(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        vocab_size=20,
    )
    config = Gemma3Config(
        text_config=small, vision_config=small | dict(image_size=16, patch_size=4)
    )
    with (
        pytest.raises(ValueError, match="see each other in both directions"),
        pruning(Gemma3ForConditionalGeneration(config), S),
    ):
        pass


def test_the_scale_of_both_parts_is_in_the_trace():
    model, row = vlm("next"), rows("next")[1]
    with pruning(model, S) as trace:
        last(model, row)
    parts = trace.parts[3]
    torch.testing.assert_close(
        trace.scores[3][0], parts["ttv"][0] + parts["iga"][0], equal_nan=True
    )
    left = parts["iga"][0][trace.kept[2][0]]
    assert left.isfinite().all()
    assert parts["iga"][0].isnan().sum() == trace.n_image[0] - len(left)
    mean, spread = trace.scale(3)["iga"]
    assert mean == pytest.approx(left.mean().item())
    assert spread == pytest.approx(left.std(correction=0).item())
    assert trace.scale(4) == {}
    with pruning(model, replace(S, score="iga")) as trace:
        last(model, row)
    assert trace.scale(3) == {}


def test_every_kind_is_tried_here():
    assert {vlm(family).config.model_type for family in FAMILIES} == set(families.FAMILIES)


def test_released_code_runs_on_every_family():
    for family in FAMILIES:
        schedule = replace(RELEASED_CODE.scaled(6), keep=(0.875, 0.625, 0.25))
        with pruning(vlm(family), schedule) as trace:
            last(vlm(family), rows(family)[0])
        assert set(trace.scores) == set(schedule.prune_after)
