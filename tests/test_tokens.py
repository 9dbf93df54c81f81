"""Token selection: identities, a slow reference, worked examples, and what it refuses."""

import copy
import math
from functools import partial

import pytest
import timm
import torch
from torch.nn.functional import cross_entropy

from trpts.tokens import Trace, _Selection, cls_attention, token_selection

X = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
Y = torch.arange(4)
VARIANTS = {
    "plain": {},
    "registers": dict(reg_tokens=3),
    "layer scale": dict(init_values=0.3),
    "q and k norm": dict(qk_norm=True),
    "not fused": {},
}


def vit(**options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        options = dict(img_size=16, patch_size=4, embed_dim=32, depth=4, num_heads=2, num_classes=5) | options
        model = timm.models.VisionTransformer(**options)
        for p in model.parameters():
            p.data += 0.2 * torch.randn_like(p)  # attention that prefers some tokens
        return model.eval()


def variant(name):
    model = vit(**VARIANTS[name])
    if name == "not fused":
        for block in model.blocks:
            block.attn.fused_attn = False
    return model


def reference(model, images, keep, ceil=False, merge="normalised"):
    """Sample by sample, token by token, with the whole attention matrix; ({block: positions}, logits)."""
    kept_of, rows = {}, []
    P = model.num_prefix_tokens
    for image in images:
        x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(image[None]))))
        places = torch.arange(x.shape[1] - P)
        for number, block in enumerate(model.blocks):
            y, attn = block.norm1(x), block.attn
            qkv = attn.qkv(y).view(1, -1, 3, attn.num_heads, attn.head_dim).permute(2, 0, 3, 1, 4)
            q, k, v = attn.q_norm(qkv[0]), attn.k_norm(qkv[1]), qkv[2]
            matrix = (q @ k.transpose(-2, -1) * attn.head_dim**-0.5).softmax(-1)  # [1, H, T, T]
            x = x + block.ls1(attn.proj((matrix @ v).transpose(1, 2).flatten(2)))
            if number in keep:
                a = matrix[0, :, 0, P:].mean(0)
                n = (math.ceil if ceil else math.floor)(keep[number] * len(a))
                chosen = sorted(sorted(range(len(a)), key=lambda i: -a[i].item())[:n])
                others = [i for i in range(len(a)) if i not in chosen]
                parts = [x[0, :P], x[0, [P + i for i in chosen]]]
                if others and merge != "drop":
                    m = sum(a[i] * x[0, P + i] for i in others)
                    parts.append((m / sum(a[i] for i in others) if merge == "normalised" else m)[None])
                x = torch.cat(parts)[None]
                places = torch.cat([places, places.new_full((len(a) - len(places),), -1)])[chosen]
                kept_of.setdefault(number, []).append(places)
            x = x + block.ls2(block.mlp(block.norm2(x)))
        rows.append(model.head(model.fc_norm(model.norm(x)[:, 0])))
    return {number: torch.stack(places) for number, places in kept_of.items()}, torch.cat(rows)


@pytest.mark.parametrize("name", VARIANTS)
def test_keep_all_is_the_untouched_model_to_the_bit(name):
    model = variant(name)
    untouched = model(X)
    with token_selection(model, (0, 2), 1.0):
        assert torch.equal(model(X), untouched)
    with token_selection(model, (0, 2), 1.0, shortcut=False) as trace:
        torch.testing.assert_close(model(X), untouched, atol=1e-5, rtol=1e-5)
    assert torch.equal(trace.kept[2], torch.arange(16).expand(4, -1))  # scoring and gathering did run


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("options", [{}, {"rounding": "ceil"}, {"merge": "sum"}, {"merge": "drop"}])
def test_equals_the_slow_reference(name, options):
    model, keep = variant(name), {0: 0.8, 2: 0.45, 3: 0.6}  # 16 -> 12 or 13 and one merged -> 5 …
    with token_selection(model, keep, keep, **options) as trace:
        logits = model(X)
    kept, wanted = reference(model, X, keep, options.get("rounding") == "ceil", options.get("merge", "normalised"))
    for number in keep:
        assert torch.equal(trace.kept[number], kept[number]), number
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-4)


def test_selection_and_merge_by_hand():
    """Scores .1 .4 .2 .3, ρ = ½: tokens 1 and 3 stay; of tokens 0 and 2, (.1·10 + .2·30) / .3 = 70/3; sum: 7."""
    tokens = torch.tensor([[[7.0], [10.0], [20.0], [30.0], [40.0]]])  # CLS and four patches of width 1
    wanted = {"normalised": [7, 20, 40, 70 / 3], "sum": [7, 20, 40, 7], "drop": [7, 20, 40]}
    for merge, result in wanted.items():
        by_hand = partial(torch.tensor, [[0.1, 0.4, 0.2, 0.3]])
        selection = _Selection(0, 0.5, None, 1, math.floor, merge, lambda *_, f=by_hand: f(), True, True, Trace())
        selection.qkv = torch.zeros(1, 5, 3)
        attention = timm.layers.attention.Attention(1, num_heads=1)
        assert selection.select(tokens, tokens, attention).flatten().tolist() == pytest.approx(result)


def test_cls_attention_is_the_first_row_of_the_matrix():
    model = variant("q and k norm")
    attention, tokens = model.blocks[1].attn, torch.randn(3, 7, 32)
    qkv = attention.qkv(tokens)
    q, k, _ = qkv.view(3, 7, 3, 2, 16).permute(2, 0, 3, 1, 4).unbind(0)
    matrix = (attention.q_norm(q) @ attention.k_norm(k).transpose(-2, -1) / 4).softmax(-1)
    torch.testing.assert_close(cls_attention(qkv, attention), matrix[:, :, 0].mean(1))


def test_rounding_is_not_fooled_by_binary_fractions():
    """0.29 · 100 = 28.999999999999996 keeps 29 tokens, 0.07 · 100 = 7.000000000000001 keeps 7 with ceil too."""
    model = vit(img_size=40)
    for keep, rounding, n in ((0.29, "floor", 29), (0.07, "ceil", 7), (0.295, "floor", 29), (0.295, "ceil", 30)):
        with token_selection(model, (0,), keep, rounding=rounding) as trace:
            model(torch.randn(1, 3, 40, 40))
        assert trace.kept[0].shape == (1, n)


def test_samples_do_not_see_each_other():
    model = vit()
    with token_selection(model, (1, 2), 0.5) as trace:
        together = model(X)
        places = trace.kept[2].clone()
        for i in range(4):
            torch.testing.assert_close(model(X[i : i + 1]), together[i : i + 1], atol=1e-5, rtol=1e-5)
            assert torch.equal(trace.kept[2][0], places[i])


def test_gradients_equal_those_of_the_reference():
    model, keep = vit(), {1: 0.5, 3: 0.5}
    twin = copy.deepcopy(model)
    with token_selection(model, keep, keep):
        cross_entropy(model(X), Y).backward()
    cross_entropy(reference(twin, X, keep)[1], Y).backward()
    for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_score_gradient_switch():
    """The merge's own way back to q and k is there or is not."""
    gradients = {}
    for flows in (True, False):
        model = vit()
        with token_selection(model, (1,), 0.5, score_gradient=flows):
            cross_entropy(model(X), Y).backward()
        gradients[flows] = model.blocks[1].attn.qkv.weight.grad
    assert not torch.allclose(gradients[True], gradients[False])


@pytest.mark.parametrize("drop_path", [0.0, 0.3])
def test_training_with_checkpointing(drop_path):
    losses = {}
    for checkpointing in (False, True):
        model = vit(drop_path_rate=drop_path).train()
        model.set_grad_checkpointing(checkpointing)
        optimizer = torch.optim.SGD(model.parameters(), 0.05)
        torch.manual_seed(3)
        with token_selection(model, (1, 2), 0.5) as trace:
            losses[checkpointing] = []
            for _ in range(3):
                loss = cross_entropy(model(X), Y)
                places = {b: t.clone() for b, t in trace.kept.items()}
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                assert all(torch.equal(places[b], trace.kept[b]) for b in places)
                losses[checkpointing].append(loss.item())
    assert losses[True] == pytest.approx(losses[False], abs=1e-5)
    assert losses[True][-1] != losses[True][0]


def test_autocast():
    model = vit()
    with token_selection(model, (1,), 0.5) as trace, torch.autocast("cpu", torch.bfloat16):
        assert model(X).isfinite().all()
    assert trace.scores[1].dtype == torch.float32


def test_works_on_attached_layers():
    from trpts.sparse import attach, sparse_layers

    model = vit()
    attach(model, {"blocks.1.attn.qkv": torch.zeros(96, 1, dtype=torch.int64)})
    with token_selection(model, (1,), 0.5) as trace:
        cross_entropy(model(X), Y).backward()
    assert trace.kept[1].shape == (4, 8)
    assert sparse_layers(model)["blocks.1.attn.qkv"].values.grad.any()


def test_scores_of_ones_own():
    model, seen = vit(), []

    def change(a, before, after):
        seen.append((a.shape, before.shape, after.shape))
        return (after - before).norm(dim=2)

    with token_selection(model, (1, 2), 0.5, score=change) as trace:
        model(X)
    assert seen == [((4, 16), (4, 16, 32), (4, 16, 32)), ((4, 9), (4, 9, 32), (4, 9, 32))]
    assert torch.equal(trace.kept[1], trace.scores[1].topk(8).indices.sort().values)


def state_of(model):
    return [(type(m), sorted(vars(m)), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]


def test_leaves_no_trace():
    model = vit()
    before, logits = state_of(model), model(X)
    with token_selection(model, (0, 3), 0.5):
        model(X)
        assert state_of(model) != before
    assert state_of(model) == before
    assert torch.equal(model(X), logits)
    with pytest.raises(RuntimeError, match="stop"), token_selection(model, (0, 3), 0.5):
        raise RuntimeError("stop")
    assert state_of(model) == before


def test_trace_holds_no_graph():
    model = vit()
    with token_selection(model, (1,), 0.5) as trace:
        model(X)
    assert not trace.scores[1].requires_grad


FAULTS = {
    "block out of range": (dict(blocks=(1, 4), keep=0.5), "different numbers from 0 to 3"),
    "block twice": (dict(blocks=(1, 1), keep=0.5), "different numbers"),
    "keep zero": (dict(blocks=(1,), keep=0.0), r"in \(0, 1\]"),
    "keep above one": (dict(blocks=(1,), keep=1.1), r"in \(0, 1\]"),
    "keep nan": (dict(blocks=(1,), keep=math.nan), r"in \(0, 1\]"),
    "keep of other blocks": (dict(blocks=(1, 2), keep={1: 0.5}), "for each of the blocks"),
    "rounding": (dict(blocks=(1,), keep=0.5, rounding="up"), "expected one of floor, ceil"),
    "merge": (dict(blocks=(1,), keep=0.5, merge="mean"), "normalised, sum, drop"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refuses(fault):
    model = vit()
    before = state_of(model)
    options, sentence = FAULTS[fault]
    with pytest.raises(ValueError, match=sentence), token_selection(model, **options):
        pass
    assert state_of(model) == before


def test_refuses_models_without_a_class_token():
    for model in (vit(class_token=False, global_pool="avg"), vit(global_pool="avg", fc_norm=False)):
        with pytest.raises(ValueError, match="class token"), token_selection(model, (1,), 0.5):
            pass
    with pytest.raises(ValueError, match="Linear with global_pool=None"):
        token_selection(torch.nn.Linear(2, 2), (1,), 0.5).__enter__()


def test_refuses_other_blocks_nesting_and_masks():
    model = vit(block_fn=timm.models.vision_transformer.ResPostBlock)
    with pytest.raises(ValueError, match="a ResPostBlock"), token_selection(model, (1,), 0.5):
        pass
    model = vit()
    with token_selection(model, (1,), 0.5):
        with pytest.raises(ValueError, match="cannot be nested"), token_selection(model, (0, 1), 0.5):
            pass
        with pytest.raises(ValueError, match="attention mask"):
            model.blocks[1](torch.zeros(1, 17, 32), attn_mask=torch.zeros(17, 17))
        model(X)  # the outer one still works
    with pytest.raises(ValueError, match="keeps none"), token_selection(model, (1,), 0.05):
        model(X)


def test_refuses_nan():
    model = vit()
    model.blocks[1].attn.qkv.bias.data[0] = math.nan
    with pytest.raises(ValueError, match="block 1 are not finite"), token_selection(model, (1,), 0.5):
        model(X)
