"""Deltas: round trips to the bit, swaps, sizes, and files that are wrong."""

import json
import time

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from trpts.delta import backbone_hash, load_delta, read_delta, save_delta, unload_delta
from trpts.sparse import attach, detach, sparse_layers

X = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def vit(n_classes=5, seed=1, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        options = dict(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2) | options
        model = timm.models.VisionTransformer(num_classes=5, **options).eval()
        if n_classes != 5:  # afterwards, so that the backbone's draw stays the same
            model.reset_classifier(n_classes)
        return model


def tuned(n_classes=5, seed=0, biases=True, patches=True):
    """An attached model, some steps away from its backbone."""
    model = vit(n_classes)
    generator = torch.Generator().manual_seed(seed)
    names = [
        f"blocks.{b}.{part}"
        for b in (0, 1)
        for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    ]
    index = {}
    for nth, name in enumerate([*names, "patch_embed.proj"] if patches else names):
        weight = model.get_submodule(name).weight
        noise = torch.rand(len(weight), weight[0].numel(), generator=generator)
        index[name] = noise.topk(1 + nth % 3, 1).indices.sort(1).values
    attach(model, index, biases=biases)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(model(X), (torch.arange(6) + seed) % n_classes).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("biases", [True, False])
def test_a_saved_delta_makes_the_same_model(tmp_path, biases):
    model = tuned(biases=biases)
    saved = save_delta(model, tmp_path / "a.safetensors", class_names=list("abcde"))
    logits = model(X)
    assert saved.notes["backbone_hash"] == backbone_hash(vit())
    detach(model)
    other = vit(n_classes=3)  # its head is not the delta's
    delta = load_delta(other, tmp_path / "a.safetensors")
    assert torch.equal(other(X), logits)
    assert delta.notes["class_names"] == list("abcde")
    assert other.num_classes == 5
    assert other.state_dict().keys() == model.state_dict().keys()
    assert all(
        torch.equal(a, b)
        for a, b in zip(other.state_dict().values(), model.state_dict().values(), strict=True)
    )
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_swaps_are_exact_to_the_bit(tmp_path):
    logits = {}
    for name, seed, n_classes in (("a", 1, 5), ("b", 2, 4)):
        model = tuned(n_classes, seed)
        logits[name] = model(X)
        save_delta(model, tmp_path / name)
    model = vit()
    untouched = {k: v.clone() for k, v in model.state_dict().items()}
    a, b = (read_delta(tmp_path / name) for name in "ab")
    for delta, name in ((a, "a"), (b, "b"), (a, "a"), (a, "a")):
        load_delta(model, delta)
        assert torch.equal(model(X), logits[name])
    unload_delta(model)
    unload_delta(model)  # nothing is in it: nothing happens
    assert all(torch.equal(untouched[k], v) for k, v in model.state_dict().items())
    assert "_delta" not in vars(model)


def test_another_backbone_is_refused_and_left_alone(tmp_path):
    save_delta(tuned(), tmp_path / "a")
    other = vit(seed=2)
    untouched = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(ValueError, match="belongs to another backbone"):
        load_delta(other, tmp_path / "a")
    assert all(torch.equal(untouched[k], v) for k, v in other.state_dict().items())
    swapped = vit()
    load_delta(swapped, tmp_path / "a")
    foreign = tuned()
    # as if tuned from other weights
    foreign._before_attach["tensors"]["blocks.0.mlp.fc1"][0].add_(1)
    save_delta(foreign, tmp_path / "b")
    before = swapped(X)
    with pytest.raises(ValueError, match="belongs to another backbone"):
        load_delta(swapped, tmp_path / "b")
    assert torch.equal(swapped(X), before)


def test_hash_sees_every_weight_but_the_heads():
    model = vit()
    first = backbone_hash(model)
    model.head.weight.data += 1
    assert backbone_hash(model) == first
    for name, parameter in model.named_parameters():
        if not name.startswith("head."):
            parameter.data.view(-1)[-1] += 1
            assert backbone_hash(model) != first, name
            parameter.data.view(-1)[-1] -= 1
    model.load_state_dict(vit().state_dict())
    assert backbone_hash(model) == first
    assert backbone_hash(tuned()) == first  # as it was before it was attached


@pytest.mark.slow
def test_size_at_two_connections_of_vit_b(tmp_path):
    """82,944 neurons: 2 · (4 + 2) + 4 bytes each, 1.33 MB; the head is extra, and so is a header of
    some kilobytes.
    """
    model = timm.create_model("vit_base_patch16_224", num_classes=2)
    index = {
        name: torch.arange(2).expand(len(m.weight), 2).clone()
        for name, m in model.named_modules()
        if name.startswith("blocks.") and isinstance(m, torch.nn.Linear)
    }
    attach(model, index)
    save_delta(model, tmp_path / "b16")
    head = 4 * (2 * 768 + 2)
    size = (tmp_path / "b16").stat().st_size - head
    assert 82_944 * 16 <= size < 82_944 * 16 + 20_000 < 1.5e6
    detach(model)
    delta = read_delta(tmp_path / "b16")
    load_delta(model, delta)
    start = time.perf_counter()
    load_delta(model, delta)
    # milliseconds by design: no hash of 343 MB is taken again
    assert time.perf_counter() - start < 1


def rewritten(path, change=lambda tensors: tensors, notes=lambda notes: notes):
    """Write the delta at `path` again with a fault."""
    old = read_delta(path).notes
    save_file(change(load_file(path)), path, {"notes": json.dumps(notes(old))})


def replace(name, tensor):
    return lambda tensors: tensors | {name: tensor}


FC1 = "blocks.0.mlp.fc1"
UNREADABLE = {
    "text": lambda path: path.write_text("not a delta"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "no notes": lambda path: save_file({"a": torch.zeros(1)}, path),
    "notes that are no table": lambda path: rewritten(path, notes=lambda _: [1]),
    "another format": lambda path: rewritten(
        path, notes=lambda notes: notes | {"format": "trpts delta 9"}
    ),
    "values missing": lambda path: rewritten(
        path, lambda t: {k: v for k, v in t.items() if k != f"values.{FC1}"}
    ),
    "nan": lambda path: rewritten(path, replace("head.bias", torch.full((5,), torch.nan))),
    "values that are whole numbers": lambda path: rewritten(
        path, replace(f"values.{FC1}", torch.zeros(64, 3).int())
    ),
    "absent": lambda path: path.unlink(),
}
UNFIT = {
    "unknown layer": (
        lambda t: {k.replace(FC1, "x"): v for k, v in t.items()},
        "x is no such layer",
    ),
    "index beyond the fan-in": (
        replace(f"index.{FC1}", torch.full((64, 3), 16).int()),
        "from 0 to 15",
    ),
    "index of other rows": (
        lambda t: t | {f"index.{FC1}": t[f"index.{FC1}"][:3]},
        r"expected int64 \[64",
    ),
    "values of another shape": (
        replace(f"values.{FC1}", torch.zeros(64, 9)),
        "do not fit its index",
    ),
    "bias of another shape": (replace(f"bias.{FC1}", torch.zeros(9)), "do not fit its index"),
    "biases in a column": (
        replace("head.bias", torch.zeros(5, 1)),
        r"biases \[5, 1\]: expected \[classes, 16\]",
    ),
    "head of another width": (
        replace("head.weight", torch.zeros(5, 9)),
        r"expected \[classes, 16\]",
    ),
}


@pytest.mark.parametrize("fault", UNREADABLE)
def test_unreadable_files(tmp_path, fault):
    path, model = tmp_path / "a", vit()
    save_delta(tuned(), path)
    UNREADABLE[fault](path)
    with pytest.raises(ValueError, match="a is not a readable delta"):
        load_delta(model, path)
    assert torch.equal(model(X), vit()(X))


@pytest.mark.parametrize("fault", UNFIT)
def test_deltas_that_do_not_fit(tmp_path, fault):
    path, model = tmp_path / "a", vit()
    save_delta(tuned(), path)
    change, sentence = UNFIT[fault]
    rewritten(path, change)
    with pytest.raises(ValueError, match=sentence):
        load_delta(model, path)
    assert torch.equal(model(X), vit()(X))


def test_attached_and_plain_models_are_told_apart(tmp_path):
    model = tuned()
    save_delta(model, tmp_path / "a")
    with pytest.raises(ValueError, match="detach it before"):
        load_delta(model, tmp_path / "a")
    with pytest.raises(ValueError, match="saved from an attached model"):
        save_delta(vit(), tmp_path / "b")
    assert sparse_layers(model)
