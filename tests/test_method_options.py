"""Every method with every option: what moves, what does not, and that all that is counted as
trained moves.
"""

import copy
import inspect
import itertools

import pytest
import timm
import torch

import trpts.peers  # noqa: F401 - registers them
from trpts import training_run, tuning
from trpts.allocation import allocate
from trpts.data import Split, Task
from trpts.methods import METHODS
from trpts.sparse import attached, detach

X = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 3
TASK = Task("twelve", 3, *[Split(X, Y)] * 3)

WEIGHTS = {"qkv.weight", "proj.weight", "fc1.weight", "fc2.weight"}
BIASES = {"qkv.bias", "proj.bias", "fc1.bias", "fc2.bias"}
NORMS = {"norm1.weight", "norm2.weight", "norm.weight", "norm1.bias", "norm2.bias", "norm.bias"}
PATCHES = {"patch_embed.proj.weight", "patch_embed.proj.bias"}
HEAD = {"head.weight", "head.bias"}
TABLES = {"cls_token", "pos_embed"}
EVERYTHING = WEIGHTS | BIASES | NORMS | PATCHES | HEAD | TABLES
CONNECTIONS = WEIGHTS | BIASES | HEAD
FEW = {"qkv.weight", "fc2.weight"}

NO_BIASES = ("biases", False, CONNECTIONS - BIASES)
SAME = {  # options of TR-PTS's connections that change which entries move, not which weights
    "score": "gradient",
    "n_scored": 5,
    "budget": 0.5,
    "per_neuron": 3.0,
    "c_min": 2.0,
    "w": "mean",
    "top_fraction": 0.2,
    "per": "block",
    "count": ("weights",),
    "seed": 3,
}
ALLOCATED = [*((name, value, CONNECTIONS) for name, value in SAME.items()), NO_BIASES]
SELECTED = [("n_scored", 5, CONNECTIONS), ("per_neuron", 3, CONNECTIONS), NO_BIASES]
LAYERS = ("layers", ("qkv", "fc2"), FEW | HEAD)
PROMPTS = [("n_prompts", 2, HEAD)]
# method: what moves by default, and (option, value, what moves with it) of every option that it has
OPTIONS = {
    "linear": (HEAD, []),
    "full": (EVERYTHING, []),
    "trpts": (
        CONNECTIONS,
        [
            *ALLOCATED,
            ("connections", False, HEAD),
            ("patches", True, CONNECTIONS | PATCHES),
            ("keep", 0.5, CONNECTIONS),
            ("merge", "drop", CONNECTIONS),
            ("token_score", "ttv", CONNECTIONS),
            ("n_token_blocks", 1, CONNECTIONS),
            ("placement", "every", CONNECTIONS),
            ("held_out", True, CONNECTIONS),
            ("allocated_by", "random", CONNECTIONS),
        ],
    ),
    "bitfit": ({n for n in EVERYTHING if n.endswith("bias")} | HEAD, []),
    "mask": (CONNECTIONS, ALLOCATED),
    "tome": (CONNECTIONS, [*ALLOCATED, ("r", 2, CONNECTIONS)]),
    "evit": (CONNECTIONS, [*ALLOCATED, ("keep", 0.5, CONNECTIONS)]),
    "uniform": (CONNECTIONS, [*SELECTED, ("score", "fisher_batch", CONNECTIONS)]),
    **dict.fromkeys(("gps", "fps", "magnitude", "random"), (CONNECTIONS, SELECTED)),
    "lora": (WEIGHTS | HEAD, [("r", 2, WEIGHTS | HEAD), ("alpha", 4.0, WEIGHTS | HEAD), LAYERS]),
    "shira": (WEIGHTS | HEAD, [("r", 2, WEIGHTS | HEAD), LAYERS]),
    "ssf": (EVERYTHING - TABLES, []),
    "adapter": (HEAD, [("size", 4, HEAD), ("places", ("attn", "mlp"), HEAD)]),
    "vpt-shallow": (HEAD, PROMPTS),
    "vpt-deep": (HEAD, PROMPTS),
}
BY_NAME = {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}
SMALL = {
    "trpts": {"n_scored": 8},
    "vpt-shallow": {"n_prompts": 3},
    "vpt-deep": {"n_prompts": 3},
    "lora": {"r": 3},
}
CASES = [(method, {}, moves) for method, (moves, _) in OPTIONS.items()]
CASES += [
    (method, {option: value}, moves)
    for method, (_, given) in OPTIONS.items()
    for option, value, moves in given
]


def vit():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = timm.models.VisionTransformer(
            img_size=8, patch_size=2, in_chans=1, embed_dim=16, depth=3, num_heads=2, num_classes=3
        )
        for p in model.parameters():
            p.data += 0.1 * torch.randn_like(p)
        return model


def kind(name):
    """Last two parts of a parameter's name, or what a table or the patch embedding is called."""
    return name if name in TABLES | PATCHES else ".".join(name.split(".")[-2:])


@pytest.fixture
def runs(monkeypatch):
    """A function that tunes for three steps and gives (result, parameters trained, their values at
    first).
    """
    started = []

    class Watched(tuning.Training):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            started.append((self.trained, {n: p.detach().clone() for n, p in self.trained.items()}))

    rising = itertools.count()
    monkeypatch.setattr(tuning, "Training", Watched)
    # the last epoch is the best
    for room in (training_run, tuning):
        monkeypatch.setattr(room, "accuracy", lambda *_: float(next(rising)))

    def run(model, method, **options):
        options = SMALL.get(method, {}) | options
        result = tuning.tune(
            model, TASK, method, epochs=3, lr=1e-2, batch_size=12, head="keep", **options
        )
        return result, *started[-1]

    return run


def test_every_option_is_tried():
    assert OPTIONS.keys() == METHODS.keys()
    for method, (_, given) in OPTIONS.items():
        parameters = list(inspect.signature(METHODS[method].prepare).parameters.values())[3:]
        assert {p.kind for p in parameters} <= BY_NAME, method
        names = {p.name for p in parameters if p.kind == p.KEYWORD_ONLY}
        if len(names) < len(parameters):
            names |= inspect.signature(allocate).parameters.keys() - {"scores", "model"}
        if method in ("mask", "tome", "evit"):
            names -= {"n_token_blocks", "placement"}  # refused, below
        assert {option for option, _, _ in given} == names, method
        checked = list(inspect.signature(METHODS[method].check).parameters.values())[1:]
        assert {p.kind for p in checked} <= BY_NAME, method


@pytest.mark.parametrize(
    ("method", "options", "moves"),
    CASES,
    ids=lambda x: str(x) if isinstance(x, (str, dict)) else "",
)
def test_what_moves(method, options, moves, runs):
    model = vit()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    result, trained, at_first = runs(model, method, **options)
    assert result.n_trainable == sum(p.numel() for p in trained.values())
    still = [n for n, p in trained.items() if torch.equal(p, at_first[n])]
    assert not still, f"counted as trained, and never moved: {still}"
    if attached(model):
        detach(model)
    after = dict(model.named_parameters())
    changed = {n: not torch.equal(after[n], p) for n, p in before.items()}
    assert {n for n, c in changed.items() if c} == {n for n in before if kind(n) in moves}
    # of a weight, the selected entries alone
    if result.plan is not None and "connections" not in options:
        for n, C in result.plan.connections.items():
            moved = (after[f"{n}.weight"] != before[f"{n}.weight"]).flatten(1).sum(1)
            assert moved.max() <= C, n
            assert moved.sum() > 0.9 * C * len(moved), n  # a gradient may be zero here and there


@pytest.mark.parametrize("method", ["mask", "tome", "evit"])
@pytest.mark.parametrize(
    "option", [{"n_token_blocks": 1}, {"placement": "every"}, {"n_token_blocks": 1, "keep": 0.5}]
)
def test_options_that_would_do_nothing_are_refused(method, option):
    with pytest.raises(ValueError, match=r"n_token_blocks|placement|no option keep"):
        tuning.tune(vit(), TASK, method, **option)


@pytest.mark.parametrize("score", ["gps", "random", lambda model, batches: None])
def test_patches_are_refused_with_scores_that_leave_them_out(score):
    with pytest.raises(
        ValueError,
        match=r"patches=True with score=.*: expected one of fisher, fisher_true, fisher_batch",
    ):
        tuning.tune(vit(), TASK, "trpts", patches=True, score=score)


def test_patches_with_every_score_that_knows_them(runs):
    for score in ("fisher_batch", "fisher_true"):
        result, trained, _ = runs(vit(), "trpts", patches=True, score=score)
        assert "patch_embed.proj" in result.plan.connections
        assert "patch_embed.proj.values" in trained


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_gradient_checkpointing_trains_the_same(method, runs):
    """Scored with it off, trained with it on: the blocks are computed again, and nothing else
    changes.
    """
    plain, checkpointed = vit(), vit()
    checkpointed.set_grad_checkpointing()
    calls = []
    checkpointed.blocks[1].register_forward_pre_hook(
        lambda *_: calls.append(torch.is_grad_enabled())
    )
    wanted, _, _ = runs(plain, method)
    n_calls = {}
    for name, model in (("plain", copy.deepcopy(checkpointed)), ("checkpointed", checkpointed)):
        model.set_grad_checkpointing(name == "checkpointed")
        calls.clear()
        result, _, _ = runs(model, method)
        n_calls[name] = len(calls)
        assert result.losses == pytest.approx(wanted.losses, abs=1e-6)
        assert model.grad_checkpointing == (name == "checkpointed")
    assert n_calls["checkpointed"] >= n_calls["plain"] + (3 if method != "linear" else 0)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_inference_mode_and_small_labels_train_the_same(method, runs, monkeypatch):
    wanted = runs(vit(), method)[0].losses
    model = vit()
    with torch.inference_mode():
        task = Task("twelve", 3, *[Split(X + 0, Y.to(torch.uint8))] * 3)
        monkeypatch.setitem(globals(), "TASK", task)
        assert runs(model, method)[0].losses == wanted
