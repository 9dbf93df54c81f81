"""Vision-language models of a few thousand random weights, with processors built in code: three
families.
"""

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

WORDS = [
    "<pad>",
    "<bos>",
    "<eos>",
    "<unk>",
    "<image>",
    "USER",
    ":",
    "ASSISTANT",
    "what",
    "colour",
    "?",
    "red",
    "blue",
]
VISION = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' "
    "%}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor "
    "%}{% endfor %}ASSISTANT :"
)
TEXT = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=8,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=32,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
SIDE, PATCH = 28, 7  # 4 × 4 image tokens
PINPOINTS = [[28, 56], [56, 28], [56, 56]]


def tokenizer(*special):
    vocabulary = {word: i for i, word in enumerate([*WORDS, *special])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<image>", *special],
    )


def vlm(family, **text):
    """(model, processor) of "llava", "llava_next" or "qwen2_5_vl"; `text` changes the text model's
    configuration.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {"llava": _llava, "llava_next": _next, "qwen2_5_vl": _qwen}[family](TEXT | text)


def _tower():
    return CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
    )


def _llava(text):
    config = LlavaConfig(
        vision_config=_tower(), text_config=LlamaConfig(**text), image_token_index=4
    )
    images = CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    return LlavaForConditionalGeneration(config).eval(), LlavaProcessor(
        images,
        tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def _next(text):
    config = LlavaNextConfig(
        vision_config=_tower(),
        text_config=LlamaConfig(**text),
        image_token_index=4,
        image_grid_pinpoints=PINPOINTS,
    )
    images = LlavaNextImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_grid_pinpoints=PINPOINTS,
    )
    return LlavaNextForConditionalGeneration(config).eval(), LlavaNextProcessor(
        images,
        tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def _qwen(text):
    words = tokenizer(*VISION)
    ids = [words.convert_tokens_to_ids(word) for word in VISION]
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    vision = dict(
        depth=2,
        hidden_size=32,
        num_heads=2,
        intermediate_size=48,
        out_hidden_size=text["hidden_size"],
        patch_size=PATCH,
        spatial_merge_size=2,
        window_size=SIDE,
        fullatt_block_indexes=[1],
    )
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    config = Qwen2_5_VLConfig(
        text_config=text | {"rope_parameters": rope},
        vision_config=vision,
        **dict(zip(names, ids, strict=True)),
    )
    size = {"shortest_edge": 8 * SIDE**2 // 4, "longest_edge": 40 * SIDE**2 // 4}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(patch_size=PATCH, merge_size=2, size=size),
        words,
        Qwen2VLVideoProcessor(patch_size=PATCH),
        chat_template=TEMPLATE,
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval(), processor


def picture(width=60, height=40):
    """A picture whose pixels all differ from their neighbours'."""
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)
