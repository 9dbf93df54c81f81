"""Image files as tensors: what can be read, how it is resized and normalised."""

import os
from pathlib import Path

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms import InterpolationMode, functional

# (mean, standard deviation) of red, green and blue. Papers differ here and the choice moves
# results, so it is explicit: "half" is what timm's IN-21k ViTs were trained with, "imagenet" what
# most fine-tuning papers use, "none" is [0, 1].
NORMALIZATIONS = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),  # OpenAI's
    "satellite": ((0.43, 0.411, 0.296), (0.213, 0.156, 0.143)),  # DINOv3's of aerial images
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
# both sides to the size, whatever their ratio; or the short side, then the centre
RESIZES = ("squash", "crop")
# Pillow also knows formats that run programs
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# a program may have switched Pillow's limit off
TOO_LARGE = (
    f"has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, which Pillow refuses: "
    "expected a smaller image"
)


def read_image(
    path: str | Path,
    image_size: int = 224,
    normalization: str = "half",
    resize: str = "squash",
    place: str | None = None,
    upright: bool = False,
) -> torch.Tensor:
    """The image at `path` as float32 [3, image_size, image_size], resized bicubically with
    antialiasing.

    Grey, palette and CMYK images become RGB and transparency is dropped.

    normalization  a key of NORMALIZATIONS
    resize         "squash" or "crop", see RESIZES
    place          where the file is named, for the error
    upright        turned by the file's EXIF note, as a person sees it. False: as the pixels are
                   stored, as in torchvision's ImageFolder, through which the published results went
    raises         ValueError: no such file, not an image, a broken or truncated one, more than 8
                   bits per channel, or an unknown setting
    """
    check_settings(image_size, normalization, resize)
    return fit(open_image(path, upright, place), image_size, normalization, resize)


def open_image(path: str | Path, upright: bool = False, place: str | None = None) -> Image.Image:
    """The picture in RGB; `upright`: turned by its EXIF note. Errors as of `read_image`."""
    where = f"{place}: {path}" if place else f"{path}"
    if os.path.exists(path) and not is_file(Path(path)):  # noqa: PTH110 - a named pipe would be waited for, for ever
        kind = "a folder" if Path(path).is_dir() else "no regular file"
        raise ValueError(f"{where} is {kind}: expected an image file")
    try:
        with Image.open(path, formats=FORMATS) as file:
            mode, image = file.mode, ImageOps.exif_transpose(file) if upright else file
            image = image.convert("RGB")
    except FileNotFoundError:
        raise ValueError(f"{where} does not exist: expected an image file") from None
    except UnidentifiedImageError:
        raise ValueError(f"{where} is not an image: expected one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{where} {TOO_LARGE}") from None
    except Exception as error:
        # on damaged files Pillow raises OSError, SyntaxError, struct.error and others
        raise ValueError(f"{where} is a damaged image: {error}") from error
    if mode[0] in "IF":  # Pillow would cut 16 bits off at 255: a white image, without a word
        raise ValueError(
            f"{where} has pixels of Pillow's mode {mode!r}: expected 8 bits per channel"
        )
    return image


def fit(image: Image.Image, image_size: int, normalization: str, resize: str) -> torch.Tensor:
    """A Pillow RGB image as float32 [3, size, size]; settings as in `read_image`, not checked."""
    side = image_size if resize == "crop" else [image_size, image_size]
    image = functional.resize(image, side, InterpolationMode.BICUBIC)
    # uint8 [3, size, size]
    pixels = functional.pil_to_tensor(functional.center_crop(image, image_size))
    return functional.normalize(pixels / 255, *NORMALIZATIONS[normalization])


def check_settings(image_size: int, normalization: str, resize: str) -> None:
    """Raise ValueError unless the three settings of `read_image` are known ones."""
    if image_size < 1:
        raise ValueError(f"image_size={image_size}: expected at least 1 pixel")
    for name, value, known in (
        ("normalization", normalization, NORMALIZATIONS),
        ("resize", resize, RESIZES),
    ):
        if value not in known:
            raise ValueError(f"{name}={value!r} is unknown: expected one of {', '.join(known)}")


def is_file(path: Path) -> bool:
    """Whether `path` is a file; a name that the file system refuses (too long, say) is none."""
    try:
        return path.is_file()
    except OSError:
        return False
