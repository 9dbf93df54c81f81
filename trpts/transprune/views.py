"""What image tokens stand for: (picture, places) of one picture, by kind of model. Each function
takes transformers' model and processor, and the inputs that it made of the image.

picture  float [height, width, 3] in [0, 1]
places   int [rows, columns]: the number of the image token that saw that rectangle of the picture
"""

from typing import Any

import numpy as np
import torch
from PIL import Image

MAX_SIDE = 1024  # pixels of the picture that is drawn on
View = tuple[np.ndarray, np.ndarray]


def processed(model: Any, processor: Any, inputs: Any, image: Image.Image) -> View:
    """LLaVA-1.5, Pixtral, Mistral3: the picture as the processor cut or resized it; of its tiles
    (LLaVA-NeXT, LLaVA-OneVision) the first, which is the whole picture and whose tokens come first.
    """
    pixels = inputs["pixel_values"][0].float().cpu()  # [3, h, w], of tiles [tiles, 3, h, w]
    pixels = pixels[0] if pixels.ndim == 4 else pixels
    config = model.config
    unit = config.vision_config.patch_size * getattr(config, "spatial_merge_size", 1)
    # CLIP's and DINOv2's class token stays then; other towers have none
    first = int(
        getattr(config, "vision_feature_select_strategy", None) == "full"
        and config.vision_config.model_type in ("clip_vision_model", "dinov2")
    )
    return _unnormalized(pixels, processor), _grid(
        pixels.shape[1] // unit, pixels.shape[2] // unit, first
    )


def grid(model: Any, processor: Any, inputs: Any, image: Image.Image) -> View:
    """Qwen: the whole picture, a token being spatial_merge_size² patches."""
    _, rows, columns = inputs["image_grid_thw"][0].tolist()
    merged = model.config.vision_config.spatial_merge_size
    return _small(image), _grid(rows // merged, columns // merged)


def tiles(model: Any, processor: Any, inputs: Any, image: Image.Image) -> View:
    """SmolVLM, Idefics3: the whole picture, cut into tiles, whose tokens come one tile after the
    other. A small view of the whole comes last; its tokens are shown where there are no tiles.
    """
    found = processor.image_processor([[image]], return_row_col_info=True, return_tensors="pt")
    rows, columns = (max(1, int(found[name][0][0])) for name in ("rows", "cols"))
    side = round(processor.image_seq_len**0.5)
    numbers = np.arange(rows * columns * side**2).reshape(rows, columns, side, side)
    return _small(image), numbers.swapaxes(1, 2).reshape(rows * side, columns * side)


def thumbnail(model: Any, processor: Any, inputs: Any, image: Image.Image) -> View:
    """InternVL: the small view of the whole picture, whose tokens come behind those of its tiles"""
    pixels = inputs["pixel_values"].float().cpu()  # [tiles, 3, h, w]
    side = round(processor.image_seq_length**0.5)
    return _unnormalized(pixels[-1], processor), _grid(side, side, (len(pixels) - 1) * side**2)


def _grid(rows, columns, first=0):
    return first + np.arange(rows * columns).reshape(rows, columns)


def _small(image):
    picture = image.copy()
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    return np.asarray(picture) / 255


def _unnormalized(pixels, processor):
    images = processor.image_processor
    if images.do_normalize:
        mean, std = (torch.tensor(v)[:, None, None] for v in (images.image_mean, images.image_std))
        pixels = pixels * std + mean
    return pixels.clamp(0, 1).permute(1, 2, 0).numpy()
