"""Tiny random vision-language models of three families, and prompts for them: rows of unlike
length, padded left.
"""

import functools

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

IMAGE, PAD, FAMILIES = 5, 0, ("llava", "next", "qwen")
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
    projection_dim=16,
)


@functools.cache
def vlm(family, attention="sdpa"):
    """The model, with weights large enough for attention that prefers some tokens; made once: copy
    it to change it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        if family == "qwen":
            text = TEXT | dict(
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 1e4,
                    "mrope_section": [1, 1, 2],
                }
            )
            vision = dict(
                depth=1,
                hidden_size=16,
                intermediate_size=16,
                num_heads=2,
                out_hidden_size=32,
                patch_size=4,
                spatial_merge_size=2,
                temporal_patch_size=1,
                window_size=16,
                fullatt_block_indexes=[0],
            )
            config = Qwen2_5_VLConfig(
                text_config=text,
                vision_config=vision,
                image_token_id=IMAGE,
                video_token_id=6,
                vision_start_token_id=7,
                vision_end_token_id=8,
            )
            model = Qwen2_5_VLForConditionalGeneration(config)
        else:
            parts = dict(
                vision_config=CLIPVisionConfig(**VISION),
                text_config=LlamaConfig(**TEXT),
                image_token_index=IMAGE,
                vision_feature_layer=-1,
            )
            if family == "llava":
                model = LlavaForConditionalGeneration(LlavaConfig(**parts))
            else:
                model = LlavaNextForConditionalGeneration(
                    LlavaNextConfig(**parts, image_grid_pinpoints=[[16, 16], [16, 32], [32, 16]])
                )
        for name, p in model.named_parameters():
            if "norm" not in name:
                p.data = (0.05 if "lm_head" in name else 0.35) * torch.randn_like(p)
    model.set_attn_implementation(attention)
    model.generation_config.pad_token_id = PAD
    model.generation_config.suppress_tokens = [IMAGE, 6, 7, 8]  # a random model would write them
    return model.eval()


def rows(family, n=3):
    """Inputs of each row alone: unlike instructions, and unlike image counts where the family has
    them.
    """
    g = torch.Generator().manual_seed(3)
    alone = []
    for i in range(n):
        before, after = [1, 10 + i][: 1 + i % 2], [20 + 3 * i, 21, 30 + i, 40][i % 3 :]
        extra = {}
        if family == "llava":
            count, pixels = 16, torch.randn(1, 3, 16, 16, generator=g)
        elif family == "next":
            height, width = ((16, 16), (16, 32), (32, 16))[i % 3]
            # base image, grid, newlines
            patches, grid = (1 + height * width // 256, height * width // 16 + height // 4)
            count, pixels = 16 + grid, torch.randn(1, patches, 3, 16, 16, generator=g)
            extra["image_sizes"] = torch.tensor([[height, width]])
        else:
            height, width = ((8, 8), (6, 8), (8, 4))[i % 3]
            count, pixels = height * width // 4, torch.randn(height * width, 48, generator=g)
            extra["image_grid_thw"] = torch.tensor([[1, height, width]])
            before = [*before, 7]
        ids = torch.tensor([[*before, *[IMAGE] * count, *after]])
        if family == "qwen":
            extra["mm_token_type_ids"] = (ids == IMAGE).int()
        alone.append(
            {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "pixel_values": pixels,
                **extra,
            }
        )
    return alone


def together(alone):
    """The rows as one batch, padded on the left."""
    length = max(row["input_ids"].shape[1] for row in alone)
    patches = max(row["pixel_values"].shape[1] for row in alone)
    batch = {}
    for name in alone[0]:
        values = [row[name] for row in alone]
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
    """bool [B, L]: behind the last image token of each row."""
    image = batch["input_ids"] == IMAGE
    return (image.flip(1).cumsum(1).flip(1) == 0) & batch["attention_mask"].bool()
