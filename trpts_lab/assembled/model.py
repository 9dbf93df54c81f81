"""A LLaVA of pre-trained parts in transformers' own classes: ViT-S/14, a projector trained here,
SmolLM2.

    model = load_assembled("data/weights/assembled_lora_0.safetensors")
    inputs = prompt([composition.image], ["Where is the cat?"])
    tokenizer().batch_decode(model.generate(**inputs)[:, inputs["input_ids"].shape[1] :])

The vision tower and the language model come from packages (`trpts_lab.assembled.parts`); a file
holds what was trained here alone: the projector, and in the second condition the LoRA matrices of
the language model.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import Dinov2Config, GenerationConfig, LlavaConfig, LlavaForConditionalGeneration

from trpts import img_focus
from trpts.files import read_tensors, write_tensors
from trpts.hashes import file_hash
from trpts.packages import CONVERTED_HASH
from trpts_lab.assembled import parts
from trpts_lab.assembled.compositions import N_TOKENS, PATCH, SIZE
from trpts_lab.assembled.parts import language_model, tokenizer, vision_state

# Hidden states of the ViT that the projector reads side by side: those behind blocks 4, 8 and 12.
# Tried once, before anything was trained: a linear layer names things and their colours better from
# these three than from the last alone.
READ = (4, 8, 12)
IMAGE = "<empty_output>"  # a word that the tokenizer has and no question needs: an image token
SYSTEM = "Answer in one or two words."
VISION = dict(
    hidden_size=384,
    num_hidden_layers=img_focus.DEPTH,
    num_attention_heads=6,
    mlp_ratio=4,
    image_size=SIZE,
    patch_size=PATCH,
    layer_norm_eps=1e-6,
)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as the ViT expects
WANTED = "a file of weights that `trpts assemble` wrote"


def create_assembled(seed=0):
    """The model with a projector drawn from `seed`; torch's global generator stays as it was.

    raises  FileNotFoundError, ValueError, OSError: as `parts.language_folder`, `converted_weights`
    """
    language, words = language_model(), tokenizer()
    config = LlavaConfig(
        vision_config=Dinov2Config(**VISION),
        text_config=language.config,
        image_token_index=words.convert_tokens_to_ids(IMAGE),
        image_seq_length=N_TOKENS,
        vision_feature_layer=list(READ),
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    ours, state = model.model, vision_state(SIZE)
    # no mask token: nothing is masked
    state["embeddings.mask_token"] = ours.vision_tower.embeddings.mask_token.detach()
    ours.vision_tower.load_state_dict(state)
    ours.language_model.load_state_dict(language.model.state_dict())
    model.tie_weights()
    ids = dict(bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id)
    model.generation_config = GenerationConfig(**ids, pad_token_id=words.pad_token_id)
    model.weights_hash = None
    return model.requires_grad_(False).eval()


def pixels(images):
    """uint8 [B, S, S, 3] -> float [B, 3, S, S], standardised as for ImageNet."""
    scaled = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return (scaled - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def told(words, n_image=N_TOKENS):
    """A question as the language model's chat template tells it, image tokens first."""
    asked = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"{IMAGE * n_image}\n{words}"},
    ]
    return tokenizer().apply_chat_template(asked, add_generation_prompt=True, tokenize=False)


def prompt(images, questions):
    """Inputs of `generate` for B images of one size, whole patches, and B questions in words; pads
    shorter ones on the left.
    """
    height, width, _ = images[0].shape
    texts = [told(words, height * width // PATCH**2) for words in questions]
    inputs = tokenizer()(texts, padding=True, add_special_tokens=False, return_tensors="pt")
    return {**inputs, "pixel_values": pixels(images)}


def architecture():
    """What a file of weights belongs to; a file that says otherwise is refused."""
    return {
        "language": CONVERTED_HASH[parts.NAME],
        "vision": CONVERTED_HASH[img_focus.NAME],
        "read": list(READ),
        "image": [SIZE, PATCH],
        "system": SYSTEM,
    }


def save_trained(path, tensors, scale):
    """Write what was trained, in half precision, whole or not at all.

    tensors  {name: tensor}: "projector.…", and "lora_A.…", "lora_B.…" of the language model's
             layers
    scale    of the product of a layer's LoRA matrices, α / r; None without
    """
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    write_tensors(path, halves, architecture() | {"scale": scale})


def load_assembled(path):
    """The model with what a file holds, ready to answer; LoRA matrices are merged.

    `weights_hash` of the model is the file's hash.
    raises  FileNotFoundError: no such file, or a package is missing; ValueError: not safetensors,
            or trained beside other parts
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} does not exist: `trpts assemble` makes it")
    tensors, found = read_tensors(path, WANTED)
    for key, value in architecture().items():
        if found.get(key) != value:
            raise ValueError(
                f"{path} was trained beside other parts: {key} is {found.get(key, 'not given')} "
                f"there, expected {value}"
            )
    model = create_assembled()
    layers, projector = model.model.language_model, {}
    try:
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            if part == "projector":
                projector[rest] = tensor.float()
            elif part == "lora_A":
                up = tensors[f"lora_B.{rest}"].float()  # [out, r]
                layers.get_submodule(rest).weight += found["scale"] * up @ tensor.float()
            elif part != "lora_B":
                raise KeyError(name)
        model.model.multi_modal_projector.load_state_dict(projector)
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{path} lacks weights of the model or holds others: make it anew with `trpts assemble`"
        ) from error
    model.weights_hash = file_hash(path)
    return model
