"""Criteria of other papers: each by hand, the released codes' own choices on small inputs, and what
each does in a model.

`numbers` makes tokens of whole numbers by a formula. Choices that a test calls released are what
the papers' public code gives for them (vbdi/divprune, Theia-4869/CDPruner, dvlab-research/VisionZip
and Gumpest/SparseVLMs, read and run once; nothing of it is kept here).
"""

import copy
import math
from dataclasses import replace

import pytest
import torch
from vlms import FAMILIES, IMAGE, instruction_of, rows, text_row, together, vlm

from trpts.transprune import Schedule, pruning, rivals
from trpts.transprune.costs import prefill_terms
from trpts.transprune.criteria import CRITERIA
from trpts.transprune.vision_tower import received_attention, zipped

SAME = dict(atol=1e-5, rtol=1e-5)
BEFORE = {name: Schedule((0,), (0.5,), score=name) for name in ("divprune", "cdpruner")}
SPARSE = Schedule((1, 3), (0.75, 0.5), score="sparsevlm")
ZIP = Schedule((0,), (0.5,), score="visionzip")


def numbers(n, d, seed):
    """Tokens [n, d] of whole numbers from −9 to 9."""
    i, j = torch.arange(n)[:, None], torch.arange(d)[None]
    return (((i * 37 + j * 101 + seed * 13) * (i + 3) * (j + 7)) % 19 - 9).float()


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def angles(*degrees):
    """Unit vectors in the plane."""
    turned = torch.tensor([math.radians(d) for d in degrees])
    return torch.stack([turned.cos(), turned.sin()], dim=1)


def test_divprune_by_hand():
    """At 0°, 10°, 50°, 180°, 185°: 50° has the farthest neighbour (40° away), 185° lies farthest
    from it, then 0° (50° away), then 10°, and 180° at last.
    """
    assert rivals.farthest(angles(0, 10, 50, 180, 185), 5) == [2, 4, 0, 1, 3]
    assert rivals.farthest(angles(0, 10, 50, 180, 185), 2) == [2, 4]
    assert rivals.farthest(angles(30), 1) == [0]


def test_divprune_chooses_as_the_released_code():
    assert rivals.farthest(numbers(16, 6, 1), 8) == [9, 6, 14, 5, 3, 4, 0, 15]


def test_relevance_by_hand():
    """Cosines with a word at 0°: 1, 0, −1; with the sign turned, from 0 to 1: 0, 1/2, 1."""
    found = rivals.relevance(3 * angles(0, 90, 180), 2 * angles(0))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.5, 1.0]), atol=1e-5, rtol=0)
    two = rivals.relevance(angles(0, 90, 180, 270), angles(0, 90))  # (1 + 0) / 2, …
    torch.testing.assert_close(two, torch.tensor([0.0, 0.0, 1.0, 1.0]), atol=1e-5, rtol=0)


def test_cdpruner_by_hand():
    """Equal relevance: after the token at 0°, what it leaves of one at φ is sin² φ, so 80° comes
    before 30°. Where 30° counts four times as much, 16 · sin² 30° = 4 is more than sin² 80°.
    """
    x = angles(0, 30, 80)
    assert rivals.likeliest(x, torch.tensor([1.0, 0.9, 0.9]), 3) == [0, 2, 1]
    assert rivals.likeliest(x, torch.tensor([5.0, 4.0, 1.0]), 2) == [0, 1]


def test_cdpruner_chooses_as_the_released_code():
    x = numbers(16, 6, 1)
    r = rivals.relevance(x, numbers(3, 6, 5))
    assert rivals.likeliest(x, r, 6) == [0, 9, 10, 15, 3, 12]


def test_cdpruner_finds_the_likeliest_set_where_it_can_be_counted():
    """Greedy is near the best of all sets of three: determinants of the kernel, one by one."""
    x, r = numbers(7, 5, 4), torch.linspace(0.5, 1, 7)
    unit = torch.nn.functional.normalize(x, dim=1)
    kernel = r[:, None] * (unit @ unit.mT) * r
    chosen = rivals.likeliest(x, r, 3)
    found = torch.linalg.det(kernel[chosen][:, chosen])
    sets = [list(s) for s in torch.combinations(torch.arange(7), 3).tolist()]
    best = max(torch.linalg.det(kernel[s][:, s]) for s in sets)
    assert found >= 0.7 * best
    # the determinant grows by what each step had left
    assert len(set(chosen)) == 3


def test_more_tokens_than_dimensions_are_chosen_all_the_same():
    """Three lie in a plane: the third has nothing left, and is no NaN."""
    assert sorted(rivals.likeliest(angles(0, 40, 90), torch.ones(3), 3)) == [0, 1, 2]
    assert sorted(rivals.farthest(torch.ones(4, 2), 4)) == [0, 1, 2, 3]


def test_raters_by_hand():
    """One image token (1, 0); words (ln 8, 0), (0, 5), (ln 3, 9): e to the products 8, 1, 3 of 12;
    the mean is 4, and the first alone has as much.
    """
    embeds = torch.tensor([[1, 0], [math.log(8), 0], [0, 5], [math.log(3), 9]])
    image = torch.tensor([True, False, False, False])
    assert rivals.raters(embeds, image, ~image).tolist() == [False, True, False, False]
    only = torch.tensor([False, False, True, True])  # 1 and 3 of 4: the mean is 2
    assert rivals.raters(embeds, image, only).tolist() == [False, False, False, True]
    assert not rivals.raters(embeds, torch.zeros_like(image), ~image).any()


def test_counts_of_clusters():
    """576 to 300: ⌊.3 · 276⌋ + 1 = 83 are recycled into 8 + 1; at most half of the kept."""
    assert rivals.n_clusters(576, 300) == 9
    assert rivals.n_clusters(16, 12) == 1
    assert rivals.n_clusters(16, 1) == 0
    assert rivals.n_clusters(400, 6) == 3


def test_clusters_by_hand():
    """On a line at 0, 1, 2 and 10, 11: the densest is between others, the next far from it."""
    x = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0]])
    centres, of = rivals.clusters(x, 2)
    # 2 nearest, the token itself among them: all have one at distance 1, so the first is densest
    assert centres.tolist() == [0, 3]
    assert of.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(("m", "centres"), [(3, [4, 2, 7]), (4, [4, 2, 3, 11])])
def test_clusters_are_the_released_code_s(m, centres):
    """Which breaks ties by noise: no two of these are as dense."""
    x = numbers(12, 6, 3) / 9 + torch.arange(12)[:, None] ** 2 / 500
    found, of = rivals.clusters(x, m)
    assert found.tolist() == centres
    first = torch.tensor([-0.1835, 0.8442779, 0.5942778, -0.4057222, -0.5723889, 0.0942778])
    torch.testing.assert_close(x[of == 0].mean(0), first)


def test_visionzip_by_hand():
    """Of six two stay: token 4 is dominant; of 0, 1, 2, 3, 5 the first is the target, and takes in
    the mean of the other four.
    """
    features = torch.arange(6.0)[:, None]
    attention = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.5, 0.1])
    merged, scores = zipped(features, attention, torch.ones(6, 1), 2)
    assert scores.topk(2).indices.tolist() == [4, 0]
    assert merged.flatten().tolist() == [0 + (1 + 2 + 3 + 5) / 4, 1, 2, 3, 4, 5]


def test_visionzip_merges_as_the_released_code():
    """8 of 16, of which 2 are contextual: with the released code's own numbers of both."""
    x, keys = numbers(16, 6, 1), numbers(16, 4, 2)
    attention = torch.tensor([((i * 7) % 16) / 200 + 0.001 for i in range(16)])
    # here round(8 · 10 / 64) = 1 is contextual; 12.8 tokens would have two
    merged, scores = zipped(x, attention, keys, 8)
    assert scores.topk(7).indices.tolist() == [9, 2, 11, 4, 13, 6, 15]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trpts.transprune.vision_tower.CONTEXTUAL", 2 / 8)
        merged, scores = zipped(x, attention, keys, 8)
    order = scores.argsort(descending=True)[:8].tolist()
    assert sorted(order[:6]) == [2, 4, 6, 9, 11, 13]
    assert sorted(order[6:]) == [0, 8]
    wanted = [
        [2.0, -10.0, 2.3333335, 7.3333335, -7.6666670, -4.6666665],
        [-6.2, 6.6, 0.6, -9.0, 0.6, -4.8],
    ]
    torch.testing.assert_close(merged[[0, 8]], torch.tensor(wanted), **SAME)
    assert torch.equal(merged[order[:6]], x[order[:6]])


def test_received_attention_by_hand():
    """One head; keys ln 1 … ln 4, the first is the class token's, whose query is 1: 2, 3, 4 of 10.
    Without a class token, queries 1 and 0 over ln 1, ln 3: 1/4 and 1/2, 3/4 and 1/2 on average.
    """
    k = torch.tensor([1.0, 2.0, 3.0, 4.0]).log().view(1, 1, 4, 1)
    q = torch.tensor([1.0, 9.0, 9.0, 9.0]).view(1, 1, 4, 1)
    torch.testing.assert_close(received_attention(q, k, 3), torch.tensor([[0.2, 0.3, 0.4]]))
    k, q = k[:, :, [0, 2]], torch.tensor([1.0, 0.0]).view(1, 1, 2, 1)
    torch.testing.assert_close(received_attention(q, k, 2), torch.tensor([[0.375, 0.625]]))


def prefill(model, inputs, schedule, **options):
    with pruning(model, schedule, **options) as trace:
        return model(**inputs).logits[:, -1], trace


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("schedule", [*BEFORE.values(), SPARSE], ids=lambda s: str(s.score))
def test_a_batch_with_a_row_of_text_equals_its_rows(family, schedule):
    """Padding, rows of unlike length and a row without an image change no row's choice."""
    model, alone = vlm(family), [*rows(family), text_row(family)]
    together_, trace = prefill(model, together(alone), schedule)
    kept = trace.kept
    for i, row in enumerate(alone[:-1]):
        logits, trace = prefill(model, row, schedule)
        torch.testing.assert_close(logits[0], together_[i], **SAME)
        for stage in schedule.prune_after:
            assert torch.equal(trace.kept[stage][0], kept[stage][i])
    torch.testing.assert_close(together_[-1], model(**alone[-1]).logits[0, -1], **SAME)
    assert [len(k) for k in kept[schedule.prune_after[-1]]][-1] == 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", BEFORE)
def test_before_the_model_what_is_chosen_is_all_that_it_reads(family, name):
    """Pruning behind layer 0 is the unpruned model on a prompt from which the others are gone."""
    model, row = vlm(family), rows(family)[0]
    embeds = {}
    text = getattr(model.model, "language_model", None) or model.model.text_model
    handle = text.register_forward_pre_hook(lambda m, a, k: embeds.update(k), with_kwargs=True)
    model(**row)
    handle.remove()
    logits, trace = prefill(model, row, BEFORE[name])
    is_image = row["input_ids"][0] == IMAGE
    tokens = embeds["inputs_embeds"][0][is_image]
    pick = {
        "divprune": lambda n: rivals.farthest(tokens, n),
        "cdpruner": lambda n: rivals.likeliest(
            tokens, rivals.relevance(tokens, embeds["inputs_embeds"][0][instruction_of(row)[0]]), n
        ),
    }[name]
    n = int(is_image.sum()) // 2
    assert trace.kept[0][0].tolist() == sorted(pick(n))
    assert trace.n_tokens[0] == len(is_image) - (int(is_image.sum()) - n)
    if family in ("llava", "smolvlm", "internvl"):  # positions in one row, no DeepStack
        stay = ~is_image
        stay[is_image.nonzero().flatten()[trace.kept[0][0]]] = True
        places = torch.arange(len(is_image))[stay][None]
        # gaps in positions would pass for a seam between two texts: a mask says that there is none
        short = text(
            inputs_embeds=embeds["inputs_embeds"][:, stay],
            position_ids=places,
            attention_mask=torch.ones_like(places),
        )
        wanted = model.lm_head(short.last_hidden_state)[:, -1]
        torch.testing.assert_close(logits, wanted, **SAME)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("positions", ["keep", "compact"])
def test_before_and_in_the_model_combined_decode_as_recomputed(family, attention, positions):
    """Half before the model by DivPrune, then TransPrune: cached and recomputed write the same."""
    both = Schedule(
        (0, 2, 3),
        (0.75, 0.5, 0.25),
        score=("divprune", "transprune", "transprune"),
        positions=positions,
    )
    model, batch = vlm(family, attention), together(rows(family))
    options = dict(max_new_tokens=4, output_logits=True, return_dict_in_generate=True)
    with pruning(model, both) as trace:
        cached = model.generate(**batch, do_sample=False, **options)
        sizes = [layer.keys.shape[2] for layer in cached.past_key_values.layers]
        assert sizes[0] == sizes[1] == trace.n_tokens[0] + 3
        assert sizes[2:] == [trace.n_tokens[2] + 3] + 3 * [trace.n_tokens[3] + 3]
    with pruning(model, both, instruction=instruction_of(batch)):
        anew = model.generate(**batch, do_sample=False, use_cache=False, **options)
        beams = model.generate(**batch, do_sample=False, num_beams=2, max_new_tokens=3)
    assert torch.equal(anew.sequences, cached.sequences)
    torch.testing.assert_close(torch.stack(anew.logits), torch.stack(cached.logits), **SAME)
    assert beams.shape[0] == 3


@pytest.mark.parametrize("family", ["llava", "qwen3"])
def test_a_token_behind_a_prompt_pruned_before_layer_1_needs_its_place(family):
    """The model itself would take the length of its first layer's cache for it."""
    model, row = vlm(family), rows(family, 1)[0]
    with pruning(model, BEFORE["divprune"]):
        options = dict(output_logits=True, return_dict_in_generate=True)
        wanted = model.generate(**row, max_new_tokens=2, do_sample=False, **options)
        new = dict(input_ids=wanted.sequences[:, -2:-1])
        cache = model(**row, use_cache=True).past_key_values
        with pytest.raises(ValueError, match="without position_ids behind a prompt"):
            model(**new, past_key_values=cache)
        if family == "llava":
            place = torch.tensor([[row["input_ids"].shape[1]]])
            found = model(**new, past_key_values=cache, position_ids=place).logits[:, -1]
            torch.testing.assert_close(found, wanted.logits[1], **SAME)


def test_sparsevlm_keeps_its_count_and_puts_means_in_the_centres_places():
    """16 tokens to 8: ⌊.3 · 8⌋ + 1 = 3 are recycled into one cluster, in its centre's place."""
    model, row, seen = vlm("llava"), rows("llava", 1)[0], {}

    def look(c):
        scores = CRITERIA["sparsevlm"].function(c)
        seen.update(before=c.hidden[0], merged=c.merged, scores=scores[0], image=c.image[0])
        return scores

    named = Schedule((2,), (0.5,), score="sparsevlm")
    with pruning(model, replace(named, score=look)) as trace:
        layer = model.model.language_model.layers[2]  # its hook stands behind the pruning's
        handle = layer.register_forward_pre_hook(lambda m, args: seen.update(after=args[0][0]))
        logits = model(**row).logits[:, -1]
    image, scores = seen["image"].nonzero().flatten(), seen["scores"]
    assert len(trace.kept[2][0]) == 8
    handle.remove()
    ((row_number, centre, places),) = seen["merged"]
    assert row_number == 0
    assert centre in image[trace.kept[2][0]].tolist()
    assert int((scores >= 2).sum()) == 7
    dropped = [i for i in image.tolist() if scores[i] < 2]
    recycled = sorted(dropped, key=lambda i: -scores[i].frac())[:3]
    assert sorted(places.tolist()) == sorted(recycled)
    stay = torch.ones(len(seen["before"]), dtype=torch.bool)
    stay[image] = False
    stay[image[trace.kept[2][0]]] = True
    wanted = seen["before"].clone()
    wanted[centre] = seen["before"][recycled].mean(0)
    torch.testing.assert_close(seen["after"], wanted[stay], **SAME)
    again, _ = prefill(model, row, named)
    assert torch.equal(again, logits)


def zipped_reference(model, row, n_keep):
    """VisionZip in a LLaVA, written plainly: the tower's attention as the tower itself gives it in
    eager attention, merging, the projector, and the language model on what is left.
    """
    tower, seen = model.model.vision_tower, {}
    dino = hasattr(tower.encoder, "layer")
    attention = tower.encoder.layer[-1].attention if dino else tower.encoder.layers[-1].self_attn
    handle = attention.register_forward_hook(lambda m, a, o: seen.update(weights=o[1]))
    key = attention.k_proj.register_forward_hook(lambda m, a, o: seen.update(keys=o))
    states = tower(row["pixel_values"], output_hidden_states=True).hidden_states
    read = model.config.vision_feature_layer
    some = read if isinstance(read, list) else [read]
    features = torch.cat([states[layer][0, 1:] for layer in some], -1)
    handle.remove()
    key.remove()
    received = seen["weights"][0, :, 0, 1:].mean(0)
    keys = seen["keys"][0].unflatten(1, (2, -1)).mean(1)[1:]
    merged, scores = zipped(features, received, keys, n_keep)
    kept = scores.topk(n_keep).indices.sort().values
    ids = row["input_ids"][0]
    embeds = model.model.language_model.embed_tokens(ids)
    is_image = ids == IMAGE
    embeds[is_image] = model.model.multi_modal_projector(merged[None])[0]
    stay = ~is_image
    stay[is_image.nonzero().flatten()[kept]] = True
    places = torch.arange(len(ids))[stay][None]
    out = model.model.language_model(
        inputs_embeds=embeds[None, stay],
        position_ids=places,
        attention_mask=torch.ones_like(places),
    )
    return kept, model.lm_head(out.last_hidden_state)[:, -1]


@pytest.mark.parametrize("model", ["llava", "dinov2"])
def test_visionzip_in_a_model_equals_the_plain_way(model):
    model = vlm(model, "eager")
    for row in rows("llava"):
        kept, wanted = zipped_reference(model, row, 8)
        logits, trace = prefill(model, row, ZIP)
        assert torch.equal(trace.kept[0][0], kept)
        torch.testing.assert_close(logits, wanted, **SAME)
    batch = together([*rows("llava"), text_row("llava")])
    logits, _ = prefill(model, batch, ZIP)
    torch.testing.assert_close(logits[2], wanted[0], **SAME)
    with pruning(model, ZIP):  # generation reads images before the first pass, and repeats rows
        written = model.generate(**batch, max_new_tokens=2, do_sample=False, num_beams=2)
    assert written.shape[0] == 4
    untouched = model(**batch).logits
    whole, _ = prefill(model, batch, replace(ZIP, keep=(1,)))
    assert torch.equal(whole, untouched[:, -1])


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "llava"])
def test_visionzip_is_refused_where_the_projector_joins_patches(family):
    with (
        pytest.raises(ValueError, match=r"score='visionzip' on a .*: expected a Llava"),
        pruning(vlm(family), ZIP),
    ):
        pass


def test_visionzip_wants_one_image_in_a_row():
    row = rows("llava", 1)[0]
    ids = row["input_ids"]
    twice = {
        "input_ids": torch.cat([ids[:, :17], ids], 1),
        "pixel_values": row["pixel_values"].repeat(2, 1, 1, 1),
    }
    with pytest.raises(ValueError, match="2 images in 1 rows: expected one in each"):
        prefill(vlm("llava"), twice, ZIP)


def test_cdpruner_without_an_instruction_is_a_sentence():
    row = rows("llava", 1)[0]
    bare = {"input_ids": row["input_ids"][:, :17], "pixel_values": row["pixel_values"]}
    with pytest.raises(ValueError, match="'cdpruner' without an instruction token"):
        prefill(vlm("llava"), bare, BEFORE["cdpruner"])


def test_what_the_choice_costs_by_hand():
    """d = 32, 16 image tokens to 8, 4 of text, 3 ask."""
    config = vlm("llava").config.text_config
    counted = {
        name: prefill_terms(config, 16, Schedule((p,), (0.5,), score=name), 4, 3)["choice"]
        for name, p in (("divprune", 0), ("cdpruner", 0), ("visionzip", 0), ("sparsevlm", 2))
    }
    assert counted == {
        "divprune": 16 * 16 * 32,
        "cdpruner": 16 * 16 * 34 + 16 * 64 // 2 + 19 * 32,
        "visionzip": 16 * 32 + 8 * 8 * 32 // 6,
        "sparsevlm": 16 * 3 * 32 + 3 * 3 * 32,
    }
    terms = prefill_terms(config, 16, Schedule((0, 2), (0.5, 0.25), score=("divprune", "iga")), 4)
    # no layer holds 16; two hold 8, four hold 4; queries of 4 and keys of 12 tokens in layer 3
    assert terms["mlp"] == 3 * 32 * 48 * (2 * 12 + 4 * 8)
    assert terms["guidance"] == 4 * (32 + 12) * 32 + 12 * 32 * 16


@pytest.mark.parametrize("name", CRITERIA)
def test_gradient_flows_through_what_every_criterion_keeps(name):
    """And through merged tokens, to the first layer and the vision tower."""
    model, row = copy.deepcopy(vlm("llava")), rows("llava", 1)[0]
    places = (0,) if CRITERIA[name].first else (2,)
    relevant = torch.ones(1, 16, dtype=torch.bool)
    with torch.enable_grad(), pruning(model, Schedule(places, (0.5,), score=name), relevant):
        model(**row).logits[:, -1].sum().backward()
    none = {n for n, p in model.named_parameters() if p.grad is None}
    assert all("post_layernorm" in n for n in none), none
    assert model.model.vision_tower.get_input_embeddings().weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["divprune", "cdpruner", "sparsevlm"])
def test_autocast_does_not_choose(name):
    """Near tokens would tie in half precision: the same layer's states are ranked alike."""
    model, row, seen = vlm("next"), rows("next")[1], {}

    def twice(c):
        scores = CRITERIA[name].function(c)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.is_autocast_enabled("cpu")
        seen["enabled"] = torch.is_autocast_enabled("cpu")
        seen["kind"] = scores.dtype
        return scores

    with torch.autocast("cpu", torch.bfloat16):
        prefill(model, row, Schedule((2,), (0.5,), score=twice))
        prefill(model, row, Schedule((2,), (0.5,)))  # the model's own products may be half
    assert seen == {"enabled": False, "kind": torch.float32}


def test_visionzip_does_not_take_another_prompts_scores():
    model, row = vlm("llava"), rows("llava", 1)[0]
    with pruning(model, ZIP):
        model(**row)
        blind = {name: v for name, v in row.items() if name != "pixel_values"}
        with pytest.raises(ValueError, match="the vision tower has not run"):
            model(**blind)
        wanted = model.generate(**row, max_new_tokens=3, do_sample=False)
    with pruning(model, ZIP, instruction=instruction_of(row)):
        anew = model.generate(**row, max_new_tokens=3, do_sample=False, use_cache=False)
    assert torch.equal(anew, wanted)


def test_visionzip_looks_at_the_tower():
    for name, value in (("strategy", "full"), ("layer", 0), ("layer", 7), ("layer", [0, -1])):
        model = copy.deepcopy(vlm("llava"))
        key = {"strategy": "select_strategy"}.get(name, name)
        setattr(model.config, f"vision_feature_{key}", value)
        with pytest.raises(ValueError, match="with a tower of the type"), pruning(model, ZIP):
            pass


def test_attention_of_the_layer_before_the_first_is_a_sentence():
    def own(c):
        return c.attention(c.instruction)

    plan = Schedule((0, 2), (0.5, 0.25), score=(own, "iga"), iga_layer="same")
    model, row = vlm("llava"), rows("llava", 1)[0]
    with pruning(model, plan):
        for _ in range(2):
            with pytest.raises(ValueError, match="iga_layer='same' behind layer 0"):
                model(**row)


def test_attention_behind_layer_0_does_not_read_another_prompts_states():
    """The first prompt leaves what layer 2 was given; the second asks for it before layer 1."""
    asking = []

    def own(c):
        return c.attention(c.instruction) if asking else c.ttv

    plan = Schedule((0, 2), (0.5, 0.25), score=(own, "iga"), iga_layer="same")
    model, row = vlm("llava"), rows("llava", 1)[0]
    with pruning(model, plan):
        model(**row)
        asking.append(True)
        with pytest.raises(ValueError, match="iga_layer='same' behind layer 0"):
            model(**row)


def test_schedules_and_models_are_left_alone():
    model = copy.deepcopy(vlm("qwen3"))
    names = {name: set(vars(m)) for name, m in model.named_modules()}
    prefill(model, rows("qwen3")[0], BEFORE["divprune"])
    assert {name: set(vars(m)) for name, m in model.named_modules()} == names
