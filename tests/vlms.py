"""Tiny random vision-language models, one of each family that can be pruned, and prompts for them:
rows of unlike length, padded left.
"""

import functools

import torch
from transformers import (
    CLIPVisionConfig,
    Dinov2Config,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralVisionConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

IMAGE, VIDEO, PAD = 5, 6, 0
TEXT = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=6,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=64,
    pad_token_id=PAD,
    bos_token_id=1,
    eos_token_id=None,
)
VISION = dict(
    hidden_size=16,
    intermediate_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    image_size=16,
    patch_size=4,
)
CLIP = VISION | dict(projection_dim=16)
PINPOINTS = [[16, 16], [16, 32], [32, 16]]
GRID = dict(  # Qwen's towers: patches of 4 pixels, 2 × 2 of them a token
    depth=1, hidden_size=16, num_heads=2, patch_size=4, spatial_merge_size=2, temporal_patch_size=1
)
SPECIAL = dict(
    image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=7, vision_end_token_id=8
)
MROPE = dict(
    rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
)
QWEN, TILED = ("qwen2", "qwen", "qwen3"), ("smolvlm", "idefics3")
WITH_VIDEO = (*QWEN, "onevision")


def _tiled(model, config):
    return model(
        config(vision_config=VISION, text_config=LlamaConfig(**TEXT), image_token_id=IMAGE)
    )


def _llava(model, config, vision, text, **more):
    parts = dict(image_token_index=IMAGE, vision_feature_layer=-1) | more
    return model(config(vision_config=vision, text_config=text, **parts))


BUILD = {
    "llava": lambda: _llava(
        LlavaForConditionalGeneration, LlavaConfig, CLIPVisionConfig(**CLIP), LlamaConfig(**TEXT)
    ),
    "pixtral": lambda: _llava(
        LlavaForConditionalGeneration,
        LlavaConfig,
        PixtralVisionConfig(**VISION | dict(head_dim=8)),
        MistralConfig(**TEXT, sliding_window=None, head_dim=8),
        vision_feature_select_strategy="full",
    ),
    "next": lambda: _llava(
        LlavaNextForConditionalGeneration,
        LlavaNextConfig,
        CLIPVisionConfig(**CLIP),
        LlamaConfig(**TEXT),
        image_grid_pinpoints=PINPOINTS,
    ),
    "onevision": lambda: _llava(
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionConfig,
        SiglipVisionConfig(**VISION, vision_use_head=False),
        Qwen2Config(**TEXT),
        image_grid_pinpoints=PINPOINTS,
        video_token_index=VIDEO,
    ),
    "qwen2": lambda: Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            text_config=TEXT | MROPE,
            vision_config=dict(
                depth=1,
                embed_dim=16,
                hidden_size=32,
                num_heads=2,
                mlp_ratio=1,
                patch_size=4,
                temporal_patch_size=1,
            ),
            **SPECIAL,
        )
    ),
    "qwen": lambda: Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config=TEXT | MROPE,
            vision_config=GRID
            | dict(
                intermediate_size=16, out_hidden_size=32, window_size=16, fullatt_block_indexes=[0]
            ),
            **SPECIAL,
        )
    ),
    "qwen3": lambda: Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config=TEXT | MROPE | dict(head_dim=8),
            vision_config=GRID
            | dict(
                depth=4,
                intermediate_size=16,
                out_hidden_size=32,
                num_position_embeddings=64,
                deepstack_visual_indexes=[0, 1, 2],
            ),
            **SPECIAL,
        )
    ),
    "smolvlm": lambda: _tiled(SmolVLMForConditionalGeneration, SmolVLMConfig),
    "idefics3": lambda: _tiled(Idefics3ForConditionalGeneration, Idefics3Config),
    "internvl": lambda: InternVLForConditionalGeneration(
        InternVLConfig(
            vision_config=VISION | dict(image_size=[16, 16], patch_size=[4, 4]),
            text_config=Qwen3Config(**TEXT, head_dim=8),
            image_token_id=IMAGE,
            image_seq_length=4,
            tie_word_embeddings=False,
        )
    ),
    "mistral3": lambda: _llava(
        Mistral3ForConditionalGeneration,
        Mistral3Config,
        PixtralVisionConfig(**VISION | dict(head_dim=8, image_size=32)),
        MistralConfig(**TEXT, sliding_window=None, head_dim=8),
        tie_word_embeddings=False,
    ),
}
FAMILIES = tuple(BUILD)


def dinov2_llava():
    """LLaVA with another tower, of which the projector reads two layers side by side."""
    vision = {name: value for name, value in VISION.items() if name != "intermediate_size"}
    return _llava(
        LlavaForConditionalGeneration,
        LlavaConfig,
        Dinov2Config(**vision | dict(num_hidden_layers=2), mlp_ratio=1),
        LlamaConfig(**TEXT),
        vision_feature_layer=[1, 2],
    )


@functools.cache
def vlm(family, attention="sdpa"):
    """The model, with weights large enough for attention that prefers some tokens; made once: copy
    it to change it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = dinov2_llava() if family == "dinov2" else BUILD[family]()
        for name, p in model.named_parameters():
            if "norm" not in name:
                p.data = (0.05 if "lm_head" in name else 0.35) * torch.randn_like(p)
    model.set_attn_implementation(attention)
    model.generation_config.pad_token_id = PAD
    model.generation_config.suppress_tokens = [IMAGE, 6, 7, 8]  # a random model would write them
    return model.eval()


def pixels_of(family, i, generator):
    """(tokens of an image as a list, with what stands between them; inputs) of row i's image."""

    def noise(*shape):
        return torch.randn(*shape, generator=generator)

    if family == "llava":
        return [IMAGE] * 16, {"pixel_values": noise(1, 3, 16, 16)}
    if family in ("next", "onevision"):
        height, width = ((16, 16), (16, 32), (32, 16))[i % 3]
        # base image, grid, newlines
        patches, grid = (1 + height * width // 256, height * width // 16 + height // 4)
        sizes = {"image_sizes": torch.tensor([[height, width]])}
        return [IMAGE] * (16 + grid), {"pixel_values": noise(1, patches, 3, 16, 16)} | sizes
    if family in ("pixtral", "mistral3"):
        unit = 4 if family == "pixtral" else 8
        height, width = ((4 * unit, 4 * unit), (2 * unit, 4 * unit), (4 * unit, 2 * unit))[i % 3]
        tokens = ([IMAGE] * (width // unit) + [9]) * (height // unit)  # 9: a break behind each row
        pixels = torch.zeros(1, 3, 4 * unit, 4 * unit)
        pixels[..., :height, :width] = noise(1, 3, height, width)
        sizes = {"image_sizes": torch.tensor([[height, width]])}
        return tokens, {"pixel_values": pixels} | sizes
    if family in TILED:
        tiles = 1 + i % 3
        tokens = [n for t in range(tiles) for n in (7, 10 + t, *[IMAGE] * 4)]
        return tokens, {"pixel_values": noise(1, tiles, 3, 16, 16)}
    if family == "internvl":
        tiles = 1 + i % 3
        return [7, *[IMAGE] * (4 * tiles), 8], {"pixel_values": noise(tiles, 3, 16, 16)}
    height, width = ((8, 8), (6, 8), (8, 4))[i % 3]
    grid = {"image_grid_thw": torch.tensor([[1, height, width]])}
    tokens = [7, *[IMAGE] * (height * width // 4), 8]
    return tokens, {"pixel_values": noise(height * width, 48)} | grid


def prompt(family, tokens, **inputs):
    """Inputs of one row of these tokens."""
    ids = torch.tensor([tokens])
    if family in QWEN:
        inputs["mm_token_type_ids"] = (ids == IMAGE).int() + 2 * (ids == VIDEO).int()
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | inputs


def rows(family, n=3):
    """Inputs of each row alone: unlike instructions, and unlike image counts where the family has
    them.
    """
    g = torch.Generator().manual_seed(3)
    alone = []
    for i in range(n):
        before, after = [1, 10 + i][: 1 + i % 2], [20 + 3 * i, 21, 30 + i, 40][i % 3 :]
        tokens, inputs = pixels_of(family, i, g)
        alone.append(prompt(family, [*before, *tokens, *after], **inputs))
    return alone


def video(family, frames=3):
    """Inputs of one row with a video of so many frames and an instruction."""
    g = torch.Generator().manual_seed(5)
    if family == "onevision":  # 4 × 4 patches, pooled to 2 × 2 tokens, a newline at the end
        pixels = torch.randn(1, frames, 3, 16, 16, generator=g)
        tokens, inputs = [VIDEO] * (4 * frames + 1), {"pixel_values_videos": pixels}
    else:  # 4 × 4 patches, merged to 2 × 2 tokens; Qwen3 has a time in front of each frame
        tokens = [7, *[VIDEO] * (4 * frames), 8]
        if family == "qwen3":
            tokens = [n for f in range(frames) for n in (11 + f, 7, *[VIDEO] * 4, 8)]
        inputs = {
            "pixel_values_videos": torch.randn(frames * 16, 48, generator=g),
            "video_grid_thw": torch.tensor([[frames, 4, 4]]),
        }
    return prompt(family, [1, 10, *tokens, 20, 21, 30], **inputs)


def text_row(family):
    """Inputs of one row without an image."""
    return prompt(family, [1, 33, 21, 9, 40])


def together(alone):
    """The rows as one batch, padded on the left."""
    length = max(row["input_ids"].shape[1] for row in alone)
    patches = max(row["pixel_values"].shape[1] for row in alone if "pixel_values" in row)
    batch = {}
    for name in {name: None for row in alone for name in row}:
        values = [row[name] for row in alone if name in row]
        if name in ("input_ids", "attention_mask", "mm_token_type_ids"):
            # PAD is 0
            values = [torch.nn.functional.pad(v, (length - v.shape[1], 0)) for v in values]
        if name == "pixel_values" and values[0].ndim == 5:
            values = [
                torch.nn.functional.pad(v, (0, 0) * 3 + (0, patches - v.shape[1])) for v in values
            ]
        batch[name] = torch.cat(values)
    return batch


def instruction_of(batch):
    """bool [B, L]: behind the last image or video token of each row."""
    image = (batch["input_ids"] == IMAGE) | (batch["input_ids"] == VIDEO)
    return (image.flip(1).cumsum(1).flip(1) == 0) & batch["attention_mask"].bool()
