"""Vision-language models of a few thousand random weights, with processors built in code: one of
each family, and Pixtral, which is a LLaVA with another tower.
"""

from functools import partial

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralImageProcessor,
    PixtralProcessor,
    PixtralVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)
from transformers.models.smolvlm import processing_smolvlm

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
TILED = ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<video>"]
TILED += [f"<row_{i}_col_{j}>" for i in (1, 2, 3) for j in (1, 2, 3)]
INTERN = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
PIXTRAL = ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]


def template(image):
    """A chat template that has the text `image` in an image's place."""
    return (
        "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        + image
        + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}ASSISTANT :"
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


def tokenizer(*special, **named):
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
        **({"extra_special_tokens": named} if named else {}),
    )


def vlm(family, **text):
    """(model, processor) of a family by its model_type, or of "pixtral"; `text` changes the text
    model's configuration.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BUILD[family](TEXT | text)


VISION_TOWER = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=SIDE,
    patch_size=PATCH,
)


def _tower():
    return CLIPVisionConfig(**VISION_TOWER)


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


def _onevision(text):
    words = tokenizer("<video>")
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**VISION_TOWER, vision_use_head=False),
        text_config=Qwen2Config(**text),
        image_token_index=4,
        video_token_index=words.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=PINPOINTS,
        vision_feature_layer=-1,
    )
    size = {"height": SIDE, "width": SIDE}
    return LlavaOnevisionForConditionalGeneration(config).eval(), LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=PINPOINTS),
        words,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
    )


def _pixtral(text, merged=1):
    """Pixtral, and with merged=2 Mistral3, whose token is 2 × 2 patches."""
    words = tokenizer(*PIXTRAL)
    make, of = (
        (Mistral3Config, Mistral3ForConditionalGeneration)
        if merged > 1
        else (LlavaConfig, LlavaForConditionalGeneration)
    )
    more = (
        dict(spatial_merge_size=merged)
        if merged > 1
        else dict(vision_feature_select_strategy="full")
    )
    config = make(
        vision_config=PixtralVisionConfig(**VISION_TOWER | dict(image_size=84, head_dim=16)),
        text_config=MistralConfig(**text, sliding_window=None, head_dim=8),
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        tie_word_embeddings=False,
        **more,
    )
    return of(config).eval(), PixtralProcessor(
        PixtralImageProcessor(size={"longest_edge": 84}, patch_size={"height": 7, "width": 7}),
        words,
        patch_size=PATCH,
        spatial_merge_size=merged,
        chat_template=template("[IMG]"),
    )


QWEN = {
    "qwen2_vl": (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
        lambda width: dict(embed_dim=32, hidden_size=width, mlp_ratio=1),
    ),
    "qwen2_5_vl": (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLVideoProcessor,
        lambda width: dict(
            hidden_size=32,
            intermediate_size=48,
            out_hidden_size=width,
            window_size=SIDE,
            fullatt_block_indexes=[1],
        ),
    ),
    "qwen3_vl": (
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
        lambda width: dict(
            hidden_size=32,
            intermediate_size=48,
            out_hidden_size=width,
            num_position_embeddings=64,
            deepstack_visual_indexes=[0, 1],
        ),
    ),
}


def _qwen(family, text):
    make, of, processor, video, tower = QWEN[family]
    words = tokenizer(*VISION)
    ids = [words.convert_tokens_to_ids(word) for word in VISION]
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    own = dict(head_dim=8) if family == "qwen3_vl" else {}
    vision = dict(depth=2, num_heads=2, patch_size=PATCH, spatial_merge_size=2)
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    config = make(
        text_config=text | own | {"rope_parameters": rope},
        vision_config=vision | tower(text["hidden_size"]),
        **dict(zip(names, ids, strict=True)),
    )
    size = {"shortest_edge": 8 * SIDE**2 // 4, "longest_edge": 40 * SIDE**2 // 4}
    return of(config).eval(), processor(
        Qwen2VLImageProcessor(patch_size=PATCH, merge_size=2, size=size),
        words,
        video(patch_size=PATCH),
        chat_template=template("<|vision_start|><|image_pad|><|vision_end|>"),
    )


def _tiled(make, of, text):
    config = make(
        vision_config=VISION_TOWER,
        text_config=LlamaConfig(**text),
        image_token_id=4,
        scale_factor=2,
        pad_token_id=0,
    )
    return of(config).eval()


# a picture is enlarged to 84 pixels and cut into tiles of 28, of 2 × 2 tokens
TILES = dict(size={"longest_edge": 3 * SIDE}, max_image_size={"longest_edge": SIDE})


def _smolvlm(text):
    # its processor asks for this package, and uses it for videos alone
    processing_smolvlm.num2words = processing_smolvlm.num2words or str
    return _tiled(SmolVLMConfig, SmolVLMForConditionalGeneration, text), SmolVLMProcessor(
        SmolVLMImageProcessor(**TILES),
        tokenizer(*TILED),
        SmolVLMVideoProcessor(),
        image_seq_len=4,
        chat_template=template("<image>"),
    )


def _idefics3(text):
    return _tiled(Idefics3Config, Idefics3ForConditionalGeneration, text), Idefics3Processor(
        Idefics3ImageProcessor(**TILES),
        tokenizer(*TILED),
        image_seq_len=4,
        chat_template=template("<image>"),
    )


def _internvl(text):
    words = tokenizer(**INTERN)
    config = InternVLConfig(
        vision_config=VISION_TOWER | dict(image_size=[SIDE, SIDE], patch_size=[PATCH, PATCH]),
        text_config=Qwen3Config(**text, head_dim=8),
        image_token_id=words.context_image_token_id,
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    size = {"height": SIDE, "width": SIDE}
    return InternVLForConditionalGeneration(config).eval(), InternVLProcessor(
        GotOcr2ImageProcessor(size=size),
        words,
        InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=template("<IMG_CONTEXT>"),
    )


BUILD = {
    "llava": _llava,
    "pixtral": _pixtral,
    "llava_next": _next,
    "llava_onevision": _onevision,
    **{family: partial(_qwen, family) for family in QWEN},
    "smolvlm": _smolvlm,
    "idefics3": _idefics3,
    "internvl": _internvl,
    "mistral3": partial(_pixtral, merged=2),
}


def picture(width=60, height=40):
    """A picture whose pixels all differ from their neighbours'."""
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)
