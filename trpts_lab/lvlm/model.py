"""A LLaVA of one million parameters in the library's own classes: CLIP tower, projector, Llama;
weights in one file.

model = load_lvlm("data/weights/lvlm_tiny.safetensors") inputs = prompt([image], ["where is the
red-circle ?"]) tokenizer().batch_decode(model.generate(**inputs, max_new_tokens=1)[:,
inputs["input_ids"].shape[1]:])
"""

from pathlib import Path

import numpy as np
import torch
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from trpts.files import read_tensors, write_tensors
from trpts.hashes import file_hash
from trpts_lab.lvlm.questions import BOS, EOS, IMAGE, PAD, VOCABULARY, encode
from trpts_lab.lvlm.scenes import N_TOKENS, PATCH, SIZE

NAME = "lvlm_tiny"
_SIZES = dict(hidden_size=96, intermediate_size=192, num_attention_heads=4, initializer_range=0.1)
VISION = dict(**_SIZES, num_hidden_layers=3)
TEXT = dict(**_SIZES, num_hidden_layers=8, num_key_value_heads=4)
PAD_ID, BOS_ID, EOS_ID, IMAGE_ID = (VOCABULARY.index(word) for word in (PAD, BOS, EOS, IMAGE))


def create_lvlm(seed=0):
    """The model with random weights drawn from `seed`; torch's global generator stays as it was."""
    ids = dict(pad_token_id=PAD_ID, bos_token_id=BOS_ID, eos_token_id=EOS_ID)
    vision = CLIPVisionConfig(
        **VISION, image_size=SIZE, patch_size=PATCH, projection_dim=VISION["hidden_size"]
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(
            **TEXT, **ids, vocab_size=len(VOCABULARY), max_position_embeddings=2 * N_TOKENS
        ),
        image_token_index=IMAGE_ID,
        image_seq_length=N_TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(**ids)
    model.weights_hash = None
    return model.eval()


def save_lvlm(model, path):
    """Write half-precision weights and what they belong to as safetensors, whole or not at all."""
    write_tensors(path, {name: t.half() for name, t in model.state_dict().items()}, _architecture())


def load_lvlm(path):
    """The model with the weights of a file that `save_lvlm` wrote, as float32, ready to answer.

    `weights_hash` of the model is the file's hash.
    raises  FileNotFoundError: no such file; ValueError: not safetensors, or weights of another
            architecture
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} does not exist: `trpts lvlm-train` makes it")
    tensors, found = read_tensors(path, "a file of weights that `trpts lvlm-train` wrote")
    for key, value in _architecture().items():
        if found.get(key) != value:
            raise ValueError(
                f"{path} holds weights of another architecture: {key} is "
                f"{found.get(key, 'not given')} there, the model expects {value}"
            )
    model = create_lvlm()
    fits = all(t.is_floating_point() for t in tensors.values())
    if not fits or {n: t.shape for n, t in tensors.items()} != {
        n: t.shape for n, t in model.state_dict().items()
    }:
        raise ValueError(
            f"{path} lacks weights of the model or holds others: "
            "make it anew with `trpts lvlm-train`"
        )
    model.load_state_dict({name: t.float() for name, t in tensors.items()})
    model.weights_hash = file_hash(path)
    return model


def _architecture():
    return {"vision": VISION, "text": TEXT, "image": [SIZE, PATCH], "vocabulary": list(VOCABULARY)}


def pixels(images):
    """uint8 [B, SIZE, SIZE, 3] -> float [B, 3, SIZE, SIZE] from -1 to 1."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def prompt(images, questions):
    """Inputs of `generate` for B images and B questions in words; pads shorter ones on the left."""
    rows = [[BOS_ID] + [IMAGE_ID] * N_TOKENS + encode(words) for words in questions]
    T = max(map(len, rows))
    ids = torch.tensor([[PAD_ID] * (T - len(row)) + row for row in rows])  # [B, T]
    return {
        "input_ids": ids,
        "attention_mask": (ids != PAD_ID).long(),
        "pixel_values": pixels(images),
    }
