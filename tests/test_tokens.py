"""Token selection: identities, a slow reference, worked examples, and what it refuses."""

import copy
import gc
import math
import weakref

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional
from torch.nn.functional import cross_entropy

from trpts import tokens
from trpts.sparse import attach, sparse_layers
from trpts.tokens import cls_attention, keep_and_merge, token_selection

X = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
Y = torch.arange(4)
VARIANTS = {
    "plain": {},
    "registers": dict(reg_tokens=3),
    "layer scale": dict(init_values=0.3),
    "q and k norm": dict(qk_norm=True),
    "attention norm": dict(scale_attn_norm=True),
    "gate": {},
    "scaled branches": {},
    "not fused": {},
}


class Times(nn.Module):
    """Stands in for drop path, whose draws no sample-by-sample reference could repeat."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def vit(**options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        options = (
            dict(img_size=16, patch_size=4, embed_dim=32, depth=4, num_heads=2, num_classes=5)
            | options
        )
        model = timm.models.VisionTransformer(**options)
        for p in model.parameters():
            p.data += 0.2 * torch.randn_like(p)  # attention that prefers some tokens
        return model.eval()


def variant(name):
    model = vit(**VARIANTS[name])
    for block in model.blocks:
        if name == "not fused":
            block.attn.fused_attn = False
        if name == "scaled branches":
            block.drop_path1, block.drop_path2 = Times(0.7), Times(0.4)
        if name == "gate":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(2)
                block.attn.gate = nn.Linear(32, 32)
    return model


def reference(model, images, keep, ceil=False, merge="normalised", score_gradient=True):
    """Sample by sample, token by token, with the whole attention matrix; ({block: positions},
    logits).
    """
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
            mixed = attn.norm((matrix @ v).transpose(1, 2).flatten(2))
            if attn.gate is not None:
                mixed = mixed * attn.gate(y).sigmoid()
            x = x + block.drop_path1(block.ls1(attn.proj(mixed)))
            if number in keep:
                a = matrix[0, :, 0, P:].mean(0)
                a = a if score_gradient else a.detach()
                n = (math.ceil if ceil else math.floor)(keep[number] * len(a))
                chosen = sorted(sorted(range(len(a)), key=lambda i: -a[i].item())[:n])
                others = [i for i in range(len(a)) if i not in chosen]
                parts = [x[0, :P], x[0, [P + i for i in chosen]]]
                if others and merge != "drop":
                    m = sum(a[i] * x[0, P + i] for i in others)
                    parts.append(
                        (m / sum(a[i] for i in others) if merge == "normalised" else m)[None]
                    )
                x = torch.cat(parts)[None]
                places = torch.cat([places, places.new_full((len(a) - len(places),), -1)])[chosen]
                kept_of.setdefault(number, []).append(places)
            x = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        rows.append(model.head(model.fc_norm(model.norm(x)[:, 0])))
    return {number: torch.stack(places) for number, places in kept_of.items()}, torch.cat(rows)


@pytest.mark.parametrize("name", VARIANTS)
def test_keep_all_is_the_untouched_model_to_the_bit(name):
    model = variant(name)
    untouched = model(X)
    with token_selection(model, (0, 2), 1.0) as trace:
        assert torch.equal(model(X), untouched)
    assert not trace.scores
    with token_selection(model, (0, 2), 1.0, shortcut=False) as trace:
        torch.testing.assert_close(model(X), untouched, atol=1e-5, rtol=1e-5)
    assert torch.equal(trace.kept[2], torch.arange(16).expand(4, -1))
    assert trace.scores[2].shape == (4, 16)  # scoring and gathering did run


def test_keep_all_in_training_draws_the_same_drop_path():
    outputs = []
    for options in (None, {}, {"shortcut": False}):
        model = vit(drop_path_rate=0.5, init_values=0.5).train()
        torch.manual_seed(5)
        if options is None:
            outputs.append(model(X))
        else:
            with token_selection(model, (1, 3), 1, **options):
                outputs.append(model(X))
    untouched, short, long = outputs
    assert torch.equal(short, untouched)
    torch.testing.assert_close(long, untouched, atol=1e-5, rtol=1e-5)
    # something was dropped
    assert not torch.allclose(untouched, vit(init_values=0.5)(X), atol=1e-3)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("options", [{}, {"rounding": "ceil"}, {"merge": "sum"}, {"merge": "drop"}])
def test_equals_the_slow_reference(name, options):
    model, keep = variant(name), {0: 0.8, 2: 0.45, 3: 0.6}  # 16 -> 12 or 13 and one merged -> 5 …
    with token_selection(model, keep, keep, **options) as trace:
        logits = model(X)
    kept, wanted = reference(
        model, X, keep, options.get("rounding") == "ceil", options.get("merge", "normalised")
    )
    for number in keep:
        assert torch.equal(trace.kept[number], kept[number]), number
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("merge", "wanted"),
    [("normalised", [7, 20, 40, 70 / 3]), ("sum", [7, 20, 40, 7]), ("drop", [7, 20, 40])],
)
def test_merge_by_hand(merge, wanted):
    """Scores .1 .4 .2 .3: tokens 1 and 3 stay; of tokens 0 and 2, (.1·10 + .2·30) / .3 = 70/3; the
    sum is 7.
    """
    # CLS and four patches of width 1
    tokens = torch.tensor([[[7.0], [10.0], [20.0], [30.0], [40.0]]])
    chosen, kept = keep_and_merge(tokens, torch.tensor([[0.1, 0.4, 0.2, 0.3]]), 2, merge)
    assert chosen.flatten().tolist() == pytest.approx(wanted)
    assert kept.tolist() == [[1, 3]]


def test_merge_of_tokens_that_nobody_attends_to():
    chosen, _ = keep_and_merge(torch.ones(1, 4, 2), torch.tensor([[1.0, 0.0, 0.0]]), 1)
    assert torch.equal(chosen, torch.tensor([[[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]]))


def test_cls_attention_is_the_first_row_of_the_matrix():
    model = variant("q and k norm")
    attention, tokens = model.blocks[1].attn, torch.randn(3, 7, 32)
    qkv = attention.qkv(tokens)
    q, k, _ = qkv.view(3, 7, 3, 2, 16).permute(2, 0, 3, 1, 4).unbind(0)
    matrix = (attention.q_norm(q) @ attention.k_norm(k).transpose(-2, -1) / 4).softmax(-1)
    torch.testing.assert_close(cls_attention(qkv, attention), matrix[:, :, 0].mean(1))


def test_rounding_is_not_fooled_by_binary_fractions():
    """0.29 · 100 = 28.999999999999996 keeps 29 tokens, 0.07 · 100 = 7.000000000000001 keeps 7 with
    ceil too.
    """
    model = vit(img_size=40)
    for keep, rounding, n in (
        (0.29, "floor", 29),
        (0.07, "ceil", 7),
        (0.295, "floor", 29),
        (0.295, "ceil", 30),
    ):
        with token_selection(model, (0,), keep, rounding=rounding) as trace:
            model(torch.randn(1, 3, 40, 40))
        assert trace.kept[0].shape == (1, n)


def test_samples_do_not_see_each_other():
    model = vit()
    with token_selection(model, (1, 2), 0.5) as trace:
        together = model(X)
        places = trace.kept[2].clone()
        for i in range(4):
            torch.testing.assert_close(
                model(X[i : i + 1]), together[i : i + 1], atol=1e-5, rtol=1e-5
            )
            assert torch.equal(trace.kept[2][0], places[i])


@pytest.mark.parametrize("score_gradient", [True, False])
def test_gradients_equal_those_of_the_reference(score_gradient):
    model, keep = vit(), {1: 0.5, 3: 0.5}
    twin = copy.deepcopy(model)
    with token_selection(model, keep, keep, score_gradient=score_gradient):
        cross_entropy(model(X), Y).backward()
    cross_entropy(reference(twin, X, keep, score_gradient=score_gradient)[1], Y).backward()
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


def test_nothing_is_projected_twice_and_the_fused_kernel_stays(monkeypatch):
    model, calls, fused = vit(), [], []
    real = functional.scaled_dot_product_attention
    monkeypatch.setattr(
        functional,
        "scaled_dot_product_attention",
        lambda *a, **k: fused.append(a[0].shape) or real(*a, **k),
    )
    for block in model.blocks:
        block.attn.qkv.register_forward_hook(lambda *_: calls.append(1))
    with token_selection(model, (1, 2), 0.5):
        model(X)
    assert len(calls) == 4
    assert [shape[2] for shape in fused] == [17, 17, 10, 6]


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


def test_checkpointing_of_several_passes():
    """Recomputing an earlier pass neither changes the trace of the last one nor stumbles over
    it.
    """
    gradients = {}
    for checkpointing in (False, True):
        model = vit().train()
        model.set_grad_checkpointing(checkpointing)
        with token_selection(model, (1, 2), 0.5) as trace:
            loss = cross_entropy(model(X), Y)
            loss = loss + cross_entropy(model(2 * X[:2]), Y[:2])
            kept, scores = dict(trace.kept), dict(trace.scores)
            loss.backward()
        assert all(trace.kept[b] is kept[b] and trace.scores[b] is scores[b] for b in (1, 2))
        assert kept[2].shape == (2, 4)
        gradients[checkpointing] = [p.grad for p in model.parameters()]
    for a, b in zip(*gradients.values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["plain", "q and k norm"])
def test_half_precision(name):
    """Scores stay float32 under autocast, with weights of half precision as well; the merge is not
    done in half.
    """
    model = variant(name)
    with token_selection(model, (1,), 0.5) as trace:
        model(X)
        exact = trace.scores[1]
        with torch.autocast("cpu", torch.bfloat16):
            assert model(X).isfinite().all()
        under_autocast = trace.scores[1]
        assert model.bfloat16()(X.bfloat16()).isfinite().all()
    for scores in (under_autocast, trace.scores[1]):
        assert scores.dtype == torch.float32
        assert not torch.equal(scores, scores.bfloat16().float())
        torch.testing.assert_close(scores, exact, atol=0.02, rtol=0.2)


def test_merge_under_autocast_is_that_of_float32():
    seen = []
    model = vit()
    for module in (model.blocks[1], model.blocks[1].norm2):
        module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    scores = torch.rand(4, 16, generator=torch.Generator().manual_seed(1))
    with (
        token_selection(model, (1,), 0.5, score=lambda read, made, a: seen.append(made) or scores),
        torch.autocast("cpu", torch.bfloat16),
    ):
        model(X)
    before, made, chosen = seen
    after = before[:, 1:] + made
    torch.testing.assert_close(
        chosen[:, 1:], keep_and_merge(after, scores, 8)[0], atol=1e-6, rtol=1e-6
    )


def test_works_on_attached_layers():
    model = vit()
    attach(model, {"blocks.1.attn.qkv": torch.zeros(96, 1, dtype=torch.int64)})
    with token_selection(model, (1,), 0.5) as trace:
        cross_entropy(model(X), Y).backward()
    assert trace.kept[1].shape == (4, 8)
    assert sparse_layers(model)["blocks.1.attn.qkv"].values.grad.any()


def test_scores_of_ones_own():
    model, seen = vit(), []

    def change(before, after, a):
        seen.append((before.shape, after.shape, a.shape))
        return (after - before).norm(dim=2)

    with token_selection(model, (1, 2), 0.5, score=change) as trace:
        model(X)
    assert seen == [((4, 16, 32), (4, 16, 32), (4, 16)), ((4, 9, 32), (4, 9, 32), (4, 9))]
    assert torch.equal(trace.kept[1], trace.scores[1].topk(8).indices.sort().values)


def test_a_score_of_ones_own_gets_what_the_attention_reads_and_makes():
    """The tensors of the registered scores: the input behind the norm, the output without the
    residual path, and a.
    """
    model, seen = variant("registers"), {}
    before = model.blocks[1].register_forward_pre_hook(
        lambda module, inputs: seen.update(before=inputs[0])
    )
    with (
        before,
        token_selection(
            model,
            (1,),
            1,
            score=lambda *given: seen.update(given=given) or given[2],
            shortcut=False,
        ) as trace,
    ):
        model(X)
        block = model.blocks[1]
        read = block.norm1(seen["before"])
        made = block.attn(read)
    torch.testing.assert_close(seen["given"][0], read[:, 4:])
    torch.testing.assert_close(seen["given"][1], made[:, 4:])
    torch.testing.assert_close(seen["given"][2], trace.scores[1])


@pytest.mark.parametrize("name", tokens.SCORES)
@pytest.mark.parametrize("precision", ["float32", "autocast"])
def test_a_formula_selects_the_same_tokens_under_a_name_and_as_a_function(name, precision):
    model = variant("registers")
    found = []
    for score in (name, tokens.SCORES[name], lambda *given: tokens.SCORES[name](*given)):
        with (
            token_selection(model, (1, 2), 0.5, score=score) as trace,
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"),
        ):
            model(X)
        found.append(trace)
    for other in found[1:]:
        assert all(torch.equal(found[0].scores[n], other.scores[n]) for n in (1, 2))
        assert all(torch.equal(found[0].kept[n], other.kept[n]) for n in (1, 2))


def test_transition_variation_as_a_score():
    """By hand: softmax(1 − |cos|) · ‖out‖ / ‖in‖ of what attention reads and makes, over the patch
    tokens alone.
    """
    model, seen = variant("registers"), {}
    block = model.blocks[1]
    handles = [
        block.attn.register_forward_hook(
            lambda module, inputs, made: seen.update(read=inputs[0], made=made)
        ),
        block.attn.qkv.register_forward_hook(lambda module, inputs, qkv: seen.update(qkv=qkv)),
    ]
    found = {}
    for score in ("ttv", "both"):
        with token_selection(model, (1,), 0.5, score=score) as trace, torch.no_grad():
            model(X)
        found[score] = trace.scores[1]
    for handle in handles:
        handle.remove()
    read, made = seen["read"][:, 4:], seen["made"][:, 4:]
    turn = 1 - torch.nn.functional.cosine_similarity(read, made, dim=2).abs()
    ttv = turn.exp() / turn.exp().sum(1, keepdim=True) * made.norm(dim=2) / read.norm(dim=2)
    torch.testing.assert_close(found["ttv"], ttv)
    a = cls_attention(seen["qkv"], block.attn)[:, 4:].detach()
    torch.testing.assert_close(
        found["both"], a / a.sum(1, keepdim=True) + ttv / ttv.sum(1, keepdim=True)
    )
    assert not torch.equal(ttv.argsort(1), a.argsort(1))


@pytest.mark.parametrize("shortcut", [True, False])
def test_trace_numbers_patches_as_they_came_in(shortcut):
    """Through a block that keeps all; -1 stands for what was merged before; n_tokens counts CLS and
    x_m.
    """
    # by number of tokens
    wanted = {16: torch.arange(16.0), 9: torch.tensor([9.0, 0, 0, 0, 8, 0, 0, 7, 10])}
    model, keep = vit(), (0.5, 1, 0.5)
    with token_selection(
        model,
        (1, 2, 3),
        keep,
        score=lambda x, *_: wanted[x.shape[1]].expand(len(x), -1),
        shortcut=shortcut,
    ) as trace:
        for images in (X, X[:2]):  # the second pass takes the place of the first
            model(images)
            assert {block: kept.unique(dim=0).tolist() for block, kept in trace.kept.items()} == {
                1: [[8, 9, 10, 11, 12, 13, 14, 15]],
                2: [[8, 9, 10, 11, 12, 13, 14, 15, -1]],
                3: [[8, 12, 15, -1]],
            }
            assert {(len(kept), kept.dtype) for kept in trace.kept.values()} == {
                (len(images), torch.int64)
            }
            assert trace.n_tokens == {1: 10, 2: 10, 3: 6}
            assert list(trace.scores) == ([1, 3] if shortcut else [1, 2, 3])


@pytest.mark.parametrize("blocks", [(0, 2), (2, 0)])
def test_one_share_for_each_block_in_their_order(blocks):
    model, keep = vit(), dict(zip(blocks, (0.8, 0.4), strict=True))
    with token_selection(model, blocks, [0.8, 0.4]):
        logits = model(X)
    with token_selection(model, blocks, keep):
        assert torch.equal(model(X), logits)
    torch.testing.assert_close(logits, reference(model, X, keep)[1], atol=1e-5, rtol=1e-4)


def state_of(model):
    """Every attribute of every module by identity, and how many hooks hang on it."""
    return [
        (
            type(m),
            {k: id(v) for k, v in vars(m).items()},
            len(m._forward_hooks),
            len(m._forward_pre_hooks),
        )
        for m in model.modules()
    ]


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


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0.5, 1])
def test_holds_no_graph(keep):
    """Once the logits are gone, so is all that the pass has computed."""
    model, computed = vit(), []
    model.blocks[1].attn.qkv.register_forward_hook(
        lambda module, inputs, qkv: computed.append(weakref.ref(qkv))
    )
    for shortcut in (True, False):
        with token_selection(model, (1,), keep, shortcut=shortcut) as trace:
            model(X).sum()
            gc.collect()
            assert computed.pop()() is None
            assert not any(scores.requires_grad for scores in trace.scores.values())


def test_a_copy_made_inside_computes_with_its_own_weights():
    model = vit()
    with token_selection(model, (1,), 0.5):
        copied = copy.deepcopy(model)
        for p in copied.blocks[1].parameters():
            nn.init.zeros_(p)
        assert not torch.allclose(copied(X), model(X))


FAULTS = {
    "block out of range": (dict(blocks=(1, 4), keep=0.5), "different numbers from 0 to 3"),
    "block below zero": (dict(blocks=(-1,), keep=0.5), "different numbers from 0 to 3"),
    "block twice": (dict(blocks=(1, 1), keep=0.5), "different numbers"),
    "keep zero": (dict(blocks=(1,), keep=0.0), r"in \(0, 1\]"),
    "keep above one": (dict(blocks=(1,), keep=1.1), r"in \(0, 1\]"),
    "keep nan": (dict(blocks=(1,), keep=math.nan), r"in \(0, 1\]"),
    "keep of other blocks": (dict(blocks=(1, 2), keep={1: 0.5}), "for each of the blocks"),
    "keep too short": (
        dict(blocks=(1, 2), keep=(0.5,)),
        r"keep=\(0.5,\): .* for each of the blocks",
    ),
    "keep too long": (dict(blocks=(1,), keep=(0.5, 0.5)), "for each of the blocks"),
    "rounding": (dict(blocks=(1,), keep=0.5, rounding="up"), "expected one of floor, ceil"),
    "merge": (dict(blocks=(1,), keep=0.5, merge="mean"), "normalised, sum, drop"),
    "score": (
        dict(blocks=(1,), keep=0.5, score="norm"),
        "score='norm': .* cls, ttv, both or a function",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refuses(fault):
    model = vit()
    before = state_of(model)
    options, sentence = FAULTS[fault]
    with pytest.raises(ValueError, match=sentence), token_selection(model, **options):
        pass
    assert state_of(model) == before


def test_refuses_models_without_a_class_token_for_the_head():
    for model in (vit(class_token=False, global_pool="avg"), vit(global_pool="avg", fc_norm=False)):
        with (
            pytest.raises(ValueError, match=r"global_pool='avg': .* class token"),
            token_selection(model, (1,), 0.5),
        ):
            pass
    with (
        pytest.raises(ValueError, match="Linear with global_pool=None"),
        token_selection(nn.Linear(2, 2), (1,), 0.5),
    ):
        pass


def test_refuses_other_blocks():
    vision_transformer = timm.models.vision_transformer
    for options, found in (
        (dict(block_fn=vision_transformer.ResPostBlock), "a ResPostBlock with Attention"),
        (dict(block_fn=vision_transformer.ParallelThingsBlock), "a ParallelThingsBlock"),
        (dict(attn_layer="diff"), "a Block with DiffAttention"),
    ):
        with pytest.raises(ValueError, match=found), token_selection(vit(**options), (1,), 0.5):
            pass


def test_refuses_a_forward_that_another_tool_has_replaced():
    model = vit()
    model.blocks[1].forward = by_another_tool = lambda x: x
    with token_selection(model, (2,), 0.5):  # a block that selects nothing may be anything
        model(X)
    with (
        pytest.raises(ValueError, match=r"block 1 is .* its own forward"),
        token_selection(model, (1,), 0.5),
    ):
        pass
    assert model.blocks[1].forward is by_another_tool


@pytest.mark.parametrize("blocks", [(1,), (2,), (0, 1)])
def test_refuses_nesting(blocks):
    model = vit()
    with token_selection(model, (1,), 0.5) as trace:
        with (
            pytest.raises(ValueError, match="block 1 selects tokens already"),
            token_selection(model, blocks, 0.5),
        ):
            pass
        model(X)
    assert trace.n_tokens == {1: 10}  # the outer one is still at work


def test_masks_pass_where_all_stay_and_are_refused_where_tokens_go():
    model, mask = vit(), torch.zeros(17, 17).index_fill(1, torch.tensor([3]), -math.inf)
    masked = model(X, attn_mask=mask)
    assert not torch.allclose(masked, model(X))
    with token_selection(model, (1,), 1):
        assert torch.equal(model(X, attn_mask=mask), masked)
    with token_selection(model, (1,), 0.5):
        for kind in (dict(attn_mask=mask), dict(is_causal=True)):
            with pytest.raises(ValueError, match="block 1 selects tokens: an attention mask"):
                model(X, **kind)


def test_refuses_to_keep_none():
    model = vit()
    with (
        pytest.raises(ValueError, match="of 16 tokens in block 1 keeps none"),
        token_selection(model, (1,), 0.05),
    ):
        model(X)


SCORES = {
    "nan": (lambda before, after, a: a * math.nan, "block 1 are .* nan"),
    "infinite": (lambda before, after, a: a / 0, "to inf: .*finite"),
    "negative": (lambda before, after, a: a - 1, "none below 0"),
    "of another shape": (lambda before, after, a: a[:, 1:], r"are \[4, 15\] .*expected \[4, 16\]"),
}


@pytest.mark.parametrize("fault", SCORES)
def test_refuses_scores(fault):
    score, sentence = SCORES[fault]
    model = vit()
    with pytest.raises(ValueError, match=sentence), token_selection(model, (1,), 0.5, score=score):
        model(X)


def test_refuses_nan_in_the_weights():
    model = vit()
    model.blocks[1].attn.qkv.bias.data[0] = math.nan
    with (
        pytest.raises(ValueError, match=r"block 1 are .* nan to nan"),
        token_selection(model, (1,), 0.5),
    ):
        model(X)
