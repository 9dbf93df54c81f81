"""Vision transformers: the small one of this book, or any timm ViT by its dotted tag with weights from a file."""

import warnings
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

# Small enough to be pre-trained in seconds on two cores: 16 patches and CLS, 6 blocks.
SMALL = {
    "vit_small_digits": dict(img_size=8, patch_size=2, in_chans=1, embed_dim=64, depth=6, num_heads=4),
    "vit_lab": dict(img_size=32, patch_size=4, in_chans=3, embed_dim=96, depth=8, num_heads=3),
}

# Bare names that meant another checkpoint up to timm 0.4.9 (from 0.4.12 on, June 2021, AugReg): papers that give only
# such a name may mean either. Read off the tables of timm 0.4.9, 0.4.12 and 0.6.13.
ONCE_MEANT = {
    "vit_base_patch16_224_in21k": "vit_base_patch16_224.orig_in21k",
    "vit_base_patch32_224_in21k": "vit_base_patch32_224.orig_in21k",
    "vit_large_patch16_224_in21k": "vit_large_patch16_224.orig_in21k",
    "vit_base_patch16_224": "vit_base_patch16_224.orig_in21k_ft_in1k",
}


def create_backbone(name, n_classes, weights=None, seed=0):
    """Build a vision transformer with a fresh head of n_classes.

    name     one of SMALL, or a timm tag such as "vit_base_patch16_224.augreg_in21k". Write the tag in full: the
             part behind the dot names the checkpoint, and a bare name has meant different ones over the years.
    weights  path of a safetensors file with that model's weights (a head of another size in it is dropped);
             None: random weights drawn from `seed`
    returns  a timm VisionTransformer; the random draw leaves torch's global generator as it was
    warns    UserWarning: a bare name of ONCE_MEANT
    raises   ValueError: unknown name, weights that are not safetensors or belong to another architecture;
             FileNotFoundError: no such file
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in SMALL:
            model = timm.models.VisionTransformer(num_classes=n_classes, **SMALL[name])
        elif timm.is_model(name):
            model = timm.create_model(name, pretrained=False, num_classes=n_classes)
            if name in ONCE_MEANT:
                _warn_of_change(name, model.pretrained_cfg)
        else:
            raise ValueError(f"backbone {name!r} is unknown: expected one of {', '.join(SMALL)} or a timm model tag")
    if weights is not None:
        _load(model, Path(weights))
    return model


def _warn_of_change(name, now):
    warnings.warn(
        f"backbone {name!r} means {now['architecture']}.{now['tag']} in timm {timm.__version__}, but meant "
        f"{ONCE_MEANT[name]} up to timm 0.4.9: write the tag in full",
        stacklevel=3,
    )


def _load(model, path):
    """Load every weight but the head's from `path`; the model is untouched unless all of them fit."""
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} does not exist")
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    wanted = {k: v for k, v in model.state_dict().items() if not k.startswith("head.")}
    for key, tensor in wanted.items():
        have = tuple(found[key].shape) if key in found else "nothing"
        if have != tuple(tensor.shape):
            raise ValueError(
                f"{path} holds weights of another architecture: {key} is {have} there, "
                f"the model expects {tuple(tensor.shape)}"
            )
    model.load_state_dict({k: found[k] for k in wanted}, strict=False)
