"""Pruning by hooks: identities, a slow reference, batches, caches, beams, position policies, and
what it refuses.
"""

import copy
from dataclasses import replace

import pytest
import torch
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    StaticCache,
)
from transformers.models.llama.modeling_llama import LlamaForCausalLM
from vlms import FAMILIES, IMAGE, QWEN, TEXT, VIDEO, instruction_of, rows, together, vlm

from trpts.transprune import RELEASED_CODE, Schedule, pruner, pruning
from trpts.transprune.criteria import CRITERIA
from trpts.transprune.families import anatomy

S = Schedule((2, 3, 5), (0.75, 0.5, 0.25), accumulate=(1, 2, 3, 4, 5))
CODE = replace(RELEASED_CODE, prune_after=S.prune_after, keep=S.keep, accumulate=S.accumulate)
SAME = dict(atol=1e-5, rtol=1e-5)
everywhere = pytest.mark.parametrize(
    ("family", "attention"),
    [(family, attention) for family in FAMILIES for attention in ("sdpa", "eager")],
)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", [None, "CAUSAL_LM"])
def test_a_peft_model_is_pruned_as_the_model_inside(family, task):
    """Adapters that are still zero change nothing; those that are not are seen by the scores."""
    peft = pytest.importorskip("peft")
    model, inputs = copy.deepcopy(vlm(family)), rows(family)[0]
    with pruning(model, S) as trace:
        wanted = generate(model, inputs)
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type=task)
    )
    with pruning(adapted, S) as again:
        found = generate(adapted, inputs)
    assert torch.equal(found.sequences, wanted.sequences)
    torch.testing.assert_close(again.kept, trace.kept, atol=0, rtol=0)
    assert "prepare_inputs_for_generation" not in vars(adapted.base_model.model)
    with pruning(adapted, S), pytest.raises(ValueError, match="being pruned already"):
        pruning(model, S).__enter__()


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def last(model, inputs, **options):
    return model(**inputs, **options).logits[:, -1]


def generate(model, inputs, **options):
    """Sequences and the logits of each step."""
    options = (
        dict(
            max_new_tokens=4,
            output_logits=True,
            output_scores=True,
            return_dict_in_generate=True,
            do_sample=False,
        )
        | options
    )
    return model.generate(**inputs, **options)


def reference(model, inputs, schedule):
    """One row without padding, in eager attention, written plainly; ({stage: kept}, logits of the
    last token).
    """
    text, seen = anatomy(model).text, {}
    begin = text.register_forward_pre_hook(lambda m, a, k: seen.update(k), with_kwargs=True)
    places = text.rotary_emb.register_forward_pre_hook(
        lambda m, a, k: seen.update(positions=k.get("position_ids", a[-1])), with_kwargs=True
    )
    model(**inputs)
    begin.remove()
    places.remove()
    x, positions, earlier = seen["inputs_embeds"], seen["positions"], None
    number, n_image, kept_of, total = [], 0, {}, {}
    for token in inputs["input_ids"][0].tolist():
        number.append(n_image if token in (IMAGE, VIDEO) else -1)
        n_image += token in (IMAGE, VIDEO)
    last_image = max(i for i, n in enumerate(number) if n >= 0)
    asks = [i > last_image for i in range(len(number))]

    def causal(n):
        return torch.full((n, n), float("-inf")).triu(1)[None, None]

    def variation(before, after):
        """{image number: TTV} of one module, token by token."""
        turn, size = {}, {}
        for i, (b, a) in enumerate(zip(before[0], after[0], strict=True)):
            if number[i] >= 0 or schedule.softmax_over == "sequence":
                d = (a @ b / (a.norm() * b.norm())).item()
                turn[i] = (
                    torch.tensor(1 - (abs(d) if schedule.direction == "abs" else d)).exp().item()
                )
                size[i] = (a.norm() / b.norm()).item()
        whole = sum(turn.values())
        return {number[i]: turn[i] / whole * size[i] for i in turn if number[i] >= 0}

    for index, layer in enumerate(text.layers):
        rope = text.rotary_emb(x, positions)
        normed = layer.input_layernorm(x)
        mixed, weights = layer.self_attn(
            hidden_states=normed, position_embeddings=rope, attention_mask=causal(x.shape[1])
        )
        if index in schedule.prune_after:
            # [H, instruction, N]
            A = (weights if schedule.iga_layer == "next" else earlier)[0, :, asks]
            image = torch.tensor([n >= 0 for n in number])
            A = A[:, :, image] / (
                A[:, :, image].sum(2, keepdim=True) if schedule.iga == "image_keys" else 1
            )
            left = [n for n in number if n >= 0]
            guided = dict(zip(left, A.mean((0, 1)).tolist(), strict=True))
            ttv = {n: total[n] for n in left}
            if schedule.normalise:
                guided, ttv = (
                    {n: v / sum(part.values()) for n, v in part.items()} for part in (guided, ttv)
                )
            a = schedule.alpha
            ranked = sorted(left, key=lambda n: -(a * ttv[n] + (1 - a) * guided[n]))
            chosen = sorted(
                ranked[: int(schedule.keep[schedule.prune_after.index(index)] * n_image)]
            )
            kept_of[index] = torch.tensor(chosen)
            stay = [i for i, n in enumerate(number) if n < 0 or n in chosen]
            number, asks = [number[i] for i in stay], [asks[i] for i in stay]
            x, positions = x[:, stay], positions[..., stay]
            if schedule.positions == "compact":
                values = sorted(set(positions.flatten().tolist()))
                positions = positions.clone().apply_(values.index)
            rope, normed = text.rotary_emb(x, positions), layer.input_layernorm(x)
            mixed, weights = layer.self_attn(
                hidden_states=normed, position_embeddings=rope, attention_mask=causal(x.shape[1])
            )
        earlier, x = weights, x + mixed
        behind = layer.post_attention_layernorm(x)
        out = layer.mlp(behind)
        if index + 1 in schedule.accumulate:
            for part in (variation(normed, mixed), variation(behind, out)):
                for n, value in part.items():
                    total[n] = total.get(n, 0) + value
        x = x + out
        if index < len(seen.get("deepstack_visual_embeds") or []):
            for place, n in enumerate(number):
                if n >= 0:
                    x[0, place] += seen["deepstack_visual_embeds"][index][n]
    return kept_of, model.lm_head(text.norm(x))[:, -1]


@everywhere
def test_keep_all_is_the_untouched_model_to_the_bit(family, attention):
    model, batch = vlm(family, attention), together(rows(family))
    all_stay = replace(S, keep=(1, 1, 1), positions="compact")
    untouched, written = model(**batch).logits, generate(model, batch)
    with pruning(model, all_stay) as trace:
        assert torch.equal(model(**batch).logits, untouched)
        again = generate(model, batch)
    assert torch.equal(again.sequences, written.sequences)
    assert all(torch.equal(a, b) for a, b in zip(again.logits, written.logits, strict=True))
    assert not trace.scores
    assert [len(row) for row in trace.kept[5]] == trace.n_image
    for positions in ("keep", "compact"):  # scoring and gathering do run
        with pruning(model, replace(all_stay, positions=positions), shortcut=False) as trace:
            torch.testing.assert_close(last(model, batch), untouched[:, -1], **SAME)
            again = generate(model, batch)
        torch.testing.assert_close(torch.stack(again.logits), torch.stack(written.logits), **SAME)
        assert all(
            torch.equal(row, torch.arange(n))
            for row, n in zip(trace.kept[5], trace.n_image, strict=True)
        )
        assert set(trace.scores) == {2, 3, 5}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "schedule",
    [
        S,
        CODE,
        replace(S, iga="all_keys", iga_layer="same"),
        replace(S, direction="signed", positions="compact"),
        replace(S, softmax_over="sequence", alpha=0.9),
        replace(S, accumulate=(2, 4), alpha=0.2, normalise=True),
    ],
    ids=["paper", "code", "same layer", "signed", "sequence", "gaps in A"],
)
def test_equals_the_slow_reference(family, schedule):
    model = vlm(family, "eager")
    for row in rows(family):
        kept, wanted = reference(model, row, schedule)
        with pruning(model, schedule) as trace:
            found = last(model, row)
        for stage in schedule.prune_after:
            assert torch.equal(trace.kept[stage][0], kept[stage]), stage
        torch.testing.assert_close(found, wanted, **SAME)


def test_switches_change_the_choice():
    """Each setting of the test above prunes other tokens than the paper's: the comparison is not
    idle.
    """
    model, row = vlm("next"), rows("next")[2]
    chosen = set()
    variants = [
        {},
        {"direction": "signed"},
        {"softmax_over": "sequence"},
        {"iga": "all_keys"},
        {"iga_layer": "same"},
        {"normalise": True},
        {"alpha": 1.0},
        {"accumulate": (2,)},
    ]
    for options in variants:
        with pruning(model, replace(S, **options)) as trace:
            last(model, row)
        chosen.add(tuple(tuple(rows[0].tolist()) for rows in trace.kept.values()))
        assert len(trace.scores[3][0]) == trace.n_image[0]
    assert len(chosen) >= len(variants) - 1  # "sequence" scales layers, and may choose alike


@everywhere
@pytest.mark.parametrize("schedule", [S, CODE], ids=["paper", "code"])
def test_padded_batch_equals_single_rows(family, attention, schedule):
    model, alone = vlm(family, attention), rows(family)
    with pruning(model, schedule) as trace:
        all_logits = last(model, together(alone))
        kept, scores = trace.kept, trace.scores
        for i, row in enumerate(alone):
            torch.testing.assert_close(last(model, row)[0], all_logits[i], **SAME)
            for stage in schedule.prune_after:
                assert torch.equal(trace.kept[stage][0], kept[stage][i])
                torch.testing.assert_close(
                    trace.scores[stage][0], scores[stage][i], equal_nan=True, **SAME
                )
            assert trace.n_prompt == [row["input_ids"].shape[1]]


@everywhere
@pytest.mark.parametrize("positions", ["keep", "compact"])
def test_cached_decoding_equals_recomputing(family, attention, positions):
    model, batch = vlm(family, attention), together(rows(family))
    schedule = replace(S, positions=positions)
    with pruning(model, schedule) as trace:
        cached = generate(model, batch)
    with pruning(model, schedule, instruction=instruction_of(batch)):
        anew = generate(model, batch, use_cache=False)
        whole = batch | {
            "input_ids": cached.sequences,
            "attention_mask": torch.nn.functional.pad(batch["attention_mask"], (0, 4), value=1),
        }
        if family in QWEN:
            whole["mm_token_type_ids"] = torch.nn.functional.pad(batch["mm_token_type_ids"], (0, 4))
        forced = model(**whole).logits[:, -5:-1]
    assert torch.equal(anew.sequences, cached.sequences)
    torch.testing.assert_close(torch.stack(anew.logits), torch.stack(cached.logits), **SAME)
    torch.testing.assert_close(forced, torch.stack(cached.logits, dim=1), **SAME)
    sizes = [layer.keys.shape[2] for layer in cached.past_key_values.layers]
    L = batch["input_ids"].shape[1]
    wanted = [L, L, trace.n_tokens[2], trace.n_tokens[3], trace.n_tokens[3], trace.n_tokens[5]]
    assert sizes == [n + 3 for n in wanted]  # the last token written was never read
    assert len(set(wanted)) == 4


@pytest.mark.parametrize(
    ("family", "attention"), [("llava", "eager"), ("next", "sdpa"), ("qwen", "sdpa")]
)
@pytest.mark.parametrize(
    "options",
    [
        dict(num_beams=3),
        dict(num_beams=3, do_sample=True),
        dict(do_sample=True, num_return_sequences=2),
    ],
)
def test_beams_and_samples_equal_recomputing(family, attention, options):
    model, batch = vlm(family, attention), together(rows(family))
    found = []
    for use_cache in (True, False):
        torch.manual_seed(4)
        with pruning(model, replace(CODE, score="random"), instruction=instruction_of(batch)):
            found.append(generate(model, batch, use_cache=use_cache, **options))
    assert torch.equal(found[0].sequences, found[1].sequences)
    if "num_beams" in options:
        torch.testing.assert_close(found[0].sequences_scores, found[1].sequences_scores, **SAME)


def test_beams_of_a_batch_equal_beams_of_single_rows():
    model, alone = vlm("next"), rows("next")
    with pruning(model, CODE):
        all_rows = generate(model, together(alone), num_beams=3)
        for i, row in enumerate(alone):
            one = generate(model, row, num_beams=3)
            torch.testing.assert_close(
                one.sequences_scores[0], all_rows.sequences_scores[i], **SAME
            )
            assert torch.equal(one.sequences[0, -4:], all_rows.sequences[i, -4:])


def test_pruning_changes_what_is_written():
    """Otherwise the comparisons above would be idle."""
    model, batch = vlm("llava"), together(rows("llava"))
    untouched = generate(model, batch).logits
    answers = [untouched]
    for positions in ("keep", "compact"):
        with pruning(model, replace(S, positions=positions)):
            answers.append(generate(model, batch).logits)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(answers[a][1], answers[b][1], atol=1e-3)


@pytest.mark.parametrize("positions", ["keep", "compact"])
def test_positions_that_later_layers_see(positions):
    """Behind the last stage a row of 23 has 11 left: numbered 0 … 10, or as before; the next token
    11, or 23.
    """
    model, row, seen = vlm("llava"), rows("llava", 1)[0], []
    text = model.model.language_model
    handle = text.layers[5].self_attn.register_forward_pre_hook(
        lambda m, a, k: seen.append(k["position_embeddings"][0]), with_kwargs=True
    )
    with pruning(model, replace(S, positions=positions)) as trace:
        generate(model, row, max_new_tokens=2)
    handle.remove()
    first = row["input_ids"][0].tolist().index(IMAGE)
    image = (trace.kept[5][0] + first).tolist()
    L = row["input_ids"].shape[1]
    before = [*range(first), *image, *range(first + 16, L)]
    wanted = (before, [L]) if positions == "keep" else (list(range(len(before))), [len(before)])
    for cos, at in zip(seen, wanted, strict=True):
        torch.testing.assert_close(cos, text.rotary_emb(torch.zeros(1), torch.tensor([at]))[0])


def test_compact_closes_empty_rows_of_a_grid():
    """Qwen: 4 × 2 tokens from position 2 on, grid row 3 stays: t, h, w = 2, 5, 2 and 2, 5, 3 become
    2, 4, 2 …
    """
    model, row, seen = vlm("qwen"), rows("qwen")[2], []
    text = model.model.language_model
    handle = text.layers[2].self_attn.register_forward_pre_hook(
        lambda m, a, k: seen.append(k["position_embeddings"][0]), with_kwargs=True
    )
    schedule = Schedule(
        (2,), (0.25,), accumulate=(1,), positions="compact", score=lambda c: c.index.float()
    )
    with pruning(model, schedule):
        generate(model, row, max_new_tokens=2)
    handle.remove()
    n_text = row["input_ids"].shape[1] - 8 - 2  # behind the image; two before it
    text_at = torch.arange(5, 5 + n_text)
    axes = [
        torch.cat([torch.tensor([0, 1, *image]), text_at]) for image in ((2, 2), (4, 4), (2, 3))
    ]
    wanted = text.rotary_emb(torch.zeros(1), torch.stack(axes)[:, None])[0]
    torch.testing.assert_close(seen[0], wanted)
    torch.testing.assert_close(
        seen[1], text.rotary_emb(torch.zeros(1), torch.full((3, 1, 1), 5 + n_text))[0]
    )


@pytest.mark.parametrize("score", ["ttv", "iga", "norm", "random", "uniform", "fastv", "oracle"])
def test_every_criterion_keeps_its_count_in_padded_batches(score):
    model, alone = vlm("next"), rows("next")
    n = [int((row["input_ids"] == IMAGE).sum()) for row in alone]
    relevant = torch.zeros(3, max(n), dtype=torch.bool)
    relevant[:, 3], relevant[1, 7] = True, True
    options = {"relevant": relevant} if score == "oracle" else {}
    schedule = replace(S, score=score)
    with pruning(model, schedule, **options) as trace:
        logits = last(model, together(alone))
        kept = trace.kept
    for stage, share in zip(S.prune_after, S.keep, strict=True):
        assert [len(row) for row in kept[stage]] == [int(share * m) for m in n]
    for i, row in enumerate(alone):
        options = {"relevant": relevant[i : i + 1, : n[i]]} if score == "oracle" else {}
        with pruning(model, schedule, **options) as trace:
            torch.testing.assert_close(last(model, row)[0], logits[i], **SAME)
        assert all(torch.equal(trace.kept[stage][0], kept[stage][i]) for stage in S.prune_after)
    if score == "oracle":
        assert all({3} <= set(row.tolist()) for row in kept[5])
        assert 7 in kept[5][1]
    if score == "uniform":
        assert kept[2][0].diff().max() <= 2
        assert kept[5][0].diff().min() >= 2


def stage_of(schedule, row, family="llava", **options):
    model = vlm(family)
    with pruning(model, schedule, **options) as trace:
        last(model, row)
    return trace


def test_criteria_say_what_they_are_named_after():
    row, seen = rows("llava", 1)[0], {}

    def look(c):
        at_last = torch.zeros_like(c.image)
        at_last[:, -1] = True
        seen.update(
            ttv=c.ttv, norm=c.norm, iga=c.attention(c.instruction), fastv=c.attention(at_last), c=c
        )
        return c.ttv

    one = Schedule((2,), (0.5,), accumulate=(1, 2), score=look)
    stage_of(one, row)
    c, image = seen["c"], seen["c"].image
    assert c.index[image].tolist() == list(range(16))
    assert (c.index[~image] == -1).all()
    assert c.instruction[0].nonzero().flatten().tolist() == list(
        range(17, row["input_ids"].shape[1])
    )
    assert set(c.n_keep.tolist()[0]) == {8}
    wanted = {
        "ttv": seen["ttv"],
        "norm": seen["norm"],
        "iga": seen["iga"],
        "fastv": seen["fastv"],
        "transprune": 0.5 * seen["ttv"] + 0.5 * seen["iga"],
    }
    for score, values in wanted.items():
        found = stage_of(replace(one, score=score), row)
        torch.testing.assert_close(found.scores[2][0], values[image], **SAME)
        best = values[image].topk(8).indices.sort().values
        assert torch.equal(found.kept[2][0], best), score
    assert stage_of(replace(one, score="uniform"), row).kept[2][0].tolist() == [
        0,
        2,
        4,
        6,
        8,
        10,
        12,
        14,
    ]
    quarter = replace(one, score="uniform", keep=(0.25,))
    assert stage_of(quarter, row).kept[2][0].tolist() == [1, 5, 9, 13]


def test_random_hangs_on_the_seed_and_the_question():
    one = Schedule((2,), (0.5,), accumulate=(), score="random")
    first, second = rows("llava", 2)
    draws = {
        (seed, i): stage_of(replace(one, seed=seed), row).kept[2][0].tolist()
        for seed in (0, 1)
        for i, row in enumerate((first, second))
    }
    assert len({tuple(d) for d in draws.values()}) == 4
    assert stage_of(one, first).kept[2][0].tolist() == draws[0, 0]


def test_ties_go_to_the_first_token():
    one = Schedule((2,), (0.25,), accumulate=(), score=lambda c: torch.zeros(c.image.shape))
    assert stage_of(one, rows("llava", 1)[0]).kept[2][0].tolist() == [0, 1, 2, 3]


def test_instruction_is_what_is_named():
    """Instruction-guided attention of the last token alone is FastV's; of all behind the image it
    is another.
    """
    row = rows("llava", 1)[0]
    only_last = torch.zeros(1, row["input_ids"].shape[1], dtype=torch.bool)
    only_last[0, -1] = True
    iga = Schedule((2,), (0.5,), accumulate=(), score="iga")
    fastv = replace(iga, score="fastv")
    named = stage_of(iga, row, instruction=only_last).scores[2][0]
    torch.testing.assert_close(named, stage_of(fastv, row).scores[2][0], **SAME)
    assert not torch.allclose(named, stage_of(iga, row).scores[2][0], atol=1e-4)


def test_trace():
    model, alone = vlm("next"), rows("next")
    with pruning(model, S) as trace:
        last(model, together(alone))
        assert trace.n_image == [36, 52, 56]
        assert trace.n_prompt == [row["input_ids"].shape[1] for row in alone]
        for stage, before in ((2, None), (3, 2), (5, 3)):
            for i, n in enumerate(trace.n_image):
                scores, kept = trace.scores[stage][i], trace.kept[stage][i]
                assert scores.shape == (n,)
                there = torch.arange(n) if before is None else trace.kept[before][i]
                assert torch.equal(scores.isfinite().nonzero().flatten(), there)
                assert torch.equal(
                    kept, scores.nan_to_num(-torch.inf).topk(len(kept)).indices.sort().values
                )
            text = max(
                p - n + len(k)
                for p, n, k in zip(trace.n_prompt, trace.n_image, trace.kept[stage], strict=True)
            )
            assert trace.n_tokens[stage] == text  # the longest row's, and no filling beyond it
        last(model, alone[0])
        assert trace.n_image == [36]  # the last prompt's


def test_gradient_flows_through_kept_tokens_and_the_trace_holds_none():
    model, row = copy.deepcopy(vlm("llava")), rows("llava", 1)[0]
    with torch.enable_grad(), pruning(model, S) as trace:
        last(model, row).sum().backward()
    assert model.model.vision_tower.get_input_embeddings().weight.grad.abs().sum() > 0
    assert not any(t.requires_grad for stage in trace.scores.values() for t in stage)


def test_decoding_scores_nothing(monkeypatch):
    """Attention and FFN of five layers are watched once each, while the prompt is read, whatever is
    written then.
    """
    calls, real = [], pruner.transition_variation
    monkeypatch.setattr(
        pruner, "transition_variation", lambda *a: calls.append(a[0].shape[1]) or real(*a)
    )
    with pruning(vlm("llava"), S) as trace:
        generate(vlm("llava"), rows("llava", 1)[0])
    assert calls == [21, 21, 21, 21] + 2 * [trace.n_tokens[2]] + 4 * [trace.n_tokens[3]]


def test_a_schedule_that_drops_nothing_watches_nothing(monkeypatch):
    calls, real = [], pruner.transition_variation
    monkeypatch.setattr(pruner, "transition_variation", lambda *a: calls.append(1) or real(*a))
    model, row = vlm("llava"), rows("llava", 1)[0]
    for shortcut, n in ((True, 0), (False, 10)):  # two modules of five layers
        with pruning(model, replace(S, keep=(1, 1, 1)), shortcut=shortcut):
            last(model, row)
        assert len(calls) == n


def test_half_precision_runs():
    model, row = copy.deepcopy(vlm("llava")).bfloat16(), rows("llava", 1)[0]
    row["pixel_values"] = row["pixel_values"].bfloat16()
    with pruning(model, CODE) as trace:
        generate(model, row)
    assert trace.scores[5][0].dtype == torch.float32


@pytest.mark.parametrize("family", FAMILIES)
def test_exit_leaves_the_model_as_it_was(family):
    model, batch = vlm(family), together(rows(family))
    untouched, n_hooks, state = (
        model(**batch).logits,
        hooks(model),
        copy.deepcopy(model.state_dict()),
    )
    attributes = {name: set(vars(m)) for name, m in model.named_modules()}
    with pruning(model, S):
        assert hooks(model) > n_hooks
        generate(model, batch)
    with pytest.raises(RuntimeError, match="on purpose"), pruning(model, S):  # noqa: PT012
        model(**batch)
        raise RuntimeError("on purpose")
    broken = replace(S, score=lambda c: c.ttv[:, :2])
    with pytest.raises(ValueError, match=r"are \[3, 2\]: expected"), pruning(model, broken):
        model(**batch)
    assert hooks(model) == n_hooks
    assert {name: set(vars(m)) for name, m in model.named_modules()} == attributes
    assert all(torch.equal(a, state[name]) for name, a in model.state_dict().items())
    assert torch.equal(model(**batch).logits, untouched)
    with pruning(model, S):  # and it can be opened again
        model(**batch)


def assert_refused(message, call, family="llava", schedule=S, **options):
    model = vlm(family)
    row = rows(family, 1)[0]
    # the first pass leaves some of the library's own
    untouched, n_hooks = (last(model, row), hooks(model))
    with pytest.raises(ValueError, match=message), pruning(model, schedule, **options):
        call(model, row)
    assert hooks(model) == n_hooks
    assert torch.equal(last(model, row), untouched)


BAD_CALLS = {
    "no image": (
        "no row has an image token 5",
        lambda m, r: m(input_ids=torch.tensor([[1, 9, 9]])),
    ),
    "labels": ("labels: dropped tokens", lambda m, r: m(**r, labels=r["input_ids"])),
    "embeds": (
        "inputs_embeds without input_ids",
        lambda m, r: m(inputs_embeds=torch.zeros(1, 4, 32)),
    ),
    "static": (
        "the cache is a StaticCache: expected a DynamicCache",
        lambda m, r: m(**r, past_key_values=StaticCache(m.config.text_config, max_cache_len=40)),
    ),
    "static generation": (
        "StaticCache|static cache",
        lambda m, r: generate(m, r, cache_implementation="static"),
    ),
    "right padding": (
        "padding on the right",
        lambda m, r: m(
            **r
            | {
                "attention_mask": r["attention_mask"]
                .clone()
                .index_fill_(1, torch.tensor([r["input_ids"].shape[1] - 1]), 0)
            }
        ),
    ),
    "4-D mask": (
        r"the attention mask is \[1, 1, 20, 20\]: expected",
        lambda m, r: m(**r | {"attention_mask": torch.ones(1, 1, 20, 20)}),
    ),
    "positions of logits": (
        "logits_to_keep names positions",
        lambda m, r: m(**r, logits_to_keep=torch.tensor([3])),
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_refuses_calls(name):
    assert_refused(*BAD_CALLS[name])


def test_refuses_prompts_in_pieces_and_caches_from_elsewhere():
    def in_pieces(model, row):
        cache = model(**row, use_cache=True).past_key_values
        model(input_ids=torch.tensor([[9, 9]]), past_key_values=cache)

    assert_refused("2 tokens at once behind a filled cache", in_pieces)
    model, row = vlm("llava"), rows("llava", 1)[0]
    outside = model(**row, use_cache=True).past_key_values
    foreign = "the cache is not of the last prompt pruned here"
    for prompt_first in (False, True):
        with pruning(model, S), pytest.raises(ValueError, match=foreign):  # noqa: PT012
            if prompt_first:
                model(**row, use_cache=True)
            model(input_ids=torch.tensor([[9]]), past_key_values=outside)
    pieces = "the prompt comes in pieces, or behind a filled cache"
    for size, message in (
        (row["input_ids"].shape[1] - 1, pieces),
        (19, pieces),
        (4, "no instruction token"),
    ):
        with pruning(model, S), pytest.raises(ValueError, match=message):
            generate(model, row, prefill_chunk_size=size)
    with pruning(model, S):
        cache = model(
            **row, past_key_values=DynamicCache(config=model.config.text_config)
        ).past_key_values
        model(input_ids=torch.tensor([[9]]), past_key_values=cache)


def test_what_is_no_schedule_is_refused():
    model = vlm("llava")
    for given in (None, "high"):
        with (
            pytest.raises(ValueError, match=r"the schedule is a \w+: expected a Schedule"),
            pruning(model, given),
        ):
            pass
    oracle = replace(S, score="oracle")
    with pytest.raises(ValueError, match="score='oracle' without relevant"), pruning(model, oracle):
        pass
    with pruning(model, S):
        assert "prepare_inputs_for_generation" in vars(model)
    assert "prepare_inputs_for_generation" not in vars(model)


BAD_MASKS = {
    "lists": ("instruction is a list: expected a tensor", lambda L: dict(instruction=[[True] * L])),
    "floats": ("instruction is torch.float32", lambda L: dict(instruction=torch.ones(1, L))),
    "rows": (
        r"instruction is torch.bool \[2, \d+\]",
        lambda L: dict(instruction=torch.ones(2, L).bool()),
    ),
    "long": (
        "places: expected up to the prompt's",
        lambda L: dict(instruction=torch.zeros(1, L + 1).bool()),
    ),
    "image": (
        "instruction names an image token, padding",
        lambda L: dict(instruction=torch.ones(1, L).bool()),
    ),
    "empty": (
        "row 0 has no instruction token",
        lambda L: dict(instruction=torch.zeros(1, L).bool()),
    ),
    "relevant": (
        "relevant has 15 places: expected 16",
        lambda L: dict(relevant=torch.ones(1, 15).bool()),
    ),
}


@pytest.mark.parametrize("name", BAD_MASKS)
def test_refuses_masks(name):
    message, options = BAD_MASKS[name]
    assert_refused(
        message, lambda m, r: m(**r), **options(rows("llava", 1)[0]["input_ids"].shape[1])
    )


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ("oracle", "score='oracle' without relevant"),
        (lambda c: 3, "the scores by .* are int: expected"),
        (lambda c: c.ttv / 0, "finite for image tokens"),
    ],
)
def test_refuses_scores(score, message):
    assert_refused(message, lambda m, r: m(**r), schedule=replace(S, score=score))


def test_refuses_no_token_kept():
    assert_refused(
        "of 16 image tokens keeps none",
        lambda m, r: m(**r),
        schedule=replace(S, keep=(0.5, 0.2, 0.01)),
    )


def test_refuses_models_and_nesting():
    with (
        pytest.raises(ValueError, match="a LlamaForCausalLM of the type 'llama': expected"),
        pruning(LlamaForCausalLM(LlamaConfig(**TEXT)), S),
    ):
        pass
    model = vlm("llava")
    with pruning(model, S):
        with pytest.raises(ValueError, match="pruned already"), pruning(model, S):
            pass
        last(model, rows("llava", 1)[0])
    with (
        pytest.raises(ValueError, match=r"in 6 layers: .* Schedule.scaled\(6\)"),
        pruning(model, Schedule()),
    ):
        pass
    vision = model.config.vision_config
    sliding = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=MistralConfig(**TEXT, sliding_window=8))
    )
    with pytest.raises(ValueError, match="slides in a window of 8"), pruning(sliding, S):
        pass
    model = copy.deepcopy(model)
    model.model.language_model.config._attn_implementation = "flex_attention"
    with (
        pytest.raises(ValueError, match="attention is flex_attention: expected sdpa or eager"),
        pruning(model, S),
    ):
        pass


def test_refuses_gradient_checkpointing():
    model, row = copy.deepcopy(vlm("llava")).train(), rows("llava", 1)[0]
    model.activation_checkpointing_enable()
    with pytest.raises(ValueError, match="gradient checkpointing"), pruning(model, S):
        model(**row)


@pytest.mark.parametrize("name", [name for name, known in CRITERIA.items() if not known.first])
def test_a_criterion_keeps_the_same_under_a_name_and_as_a_function(name):
    """In a schedule whose accumulated layers follow its stages."""
    model = vlm("llava")
    batch = together(rows("llava"))
    relevant = torch.arange(16).expand(3, -1) % 3 == 0
    found = []
    for score in (name, lambda c: CRITERIA[name].function(c)):
        schedule = Schedule((2, 4), (0.5, 0.25), score=score)
        assert schedule.accumulate == (2, 3, 4)
        with pruning(model, schedule, relevant=relevant) as trace:
            logits = model(**batch).logits
        found.append((trace, logits))
    (named, a), (own, b) = found
    assert torch.equal(a, b)
    for stage in (2, 4):
        assert all(
            torch.equal(x, y) for x, y in zip(named.kept[stage], own.kept[stage], strict=True)
        )
