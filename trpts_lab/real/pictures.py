"""Photographs that may stand in a page: in the public domain or CC0, out of scikit-image's package.

Pictures in pages come from here alone, never from a real task: most of those have licences that
forbid it. Each licence was read in scikit-image 0.26.0 (`skimage/data/_fetchers.py`, the docstring
of the function that loads the picture). Left out: pictures without a statement or with a vaguer one
(coins, moon, page, ihc, motorcycle), drawings, and the portrait of a living person (astronaut).
"""

from typing import NamedTuple

from PIL import Image

from trpts.packages import package_file


class Picture(NamedTuple):
    """A file of scikit-image, its hash, what it shows, its licence and whom to name."""

    file: str
    sha256: str
    shows: str
    licence: str
    credit: str


PICTURES = {
    "camera": Picture(
        "camera.png",
        "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
        "a photographer with a camera on a tripod",
        "CC0",
        "Lav Varshney",
    ),
    "cat": Picture(
        "chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "a cat's face",
        "CC0",
        "Stefan van der Walt",
    ),
    "coffee": Picture(
        "coffee.png",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        "a cup of coffee on a wooden table",
        "CC0",
        "Rachel Michetti",
    ),
    "rocket": Picture(
        "rocket.jpg",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        "a rocket taking off at night",
        "public domain",
        "SpaceX",
    ),
    "galaxies": Picture(
        "hubble_deep_field.jpg",
        "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
        "galaxies, the Hubble eXtreme Deep Field",
        "public domain",
        "NASA",
    ),
    "retina": Picture(
        "retina.jpg",
        "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
        "the retina of a human eye",
        "CC0",
        "Mikael Häggström",
    ),
    "clock": Picture(
        "clock_motion.png",
        "f029226b28b642e80113d86622e9b215ee067a0966feaf5e60604a1e05733955",
        "a wall clock, blurred by motion",
        "public domain",
        "Stefan van der Walt",
    ),
    "brick": Picture(
        "brick.png",
        "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
        "a brick wall",
        "CC0",
        "CC0Textures",
    ),
    "grass": Picture(
        "grass.png",
        "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
        "grass",
        "CC0",
        "linolafett",
    ),
    "gravel": Picture(
        "gravel.png",
        "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
        "gravel",
        "CC0",
        "CC0Textures",
    ),
}


def picture(name: str) -> Image.Image:
    """The picture of a name of PICTURES as a Pillow image in RGB.

    raises  ValueError: no such picture, or a file with another hash, whose licence nobody looked
            up; FileNotFoundError: scikit-image is not installed
    """
    if name not in PICTURES:
        raise ValueError(f"picture {name!r} is unknown: expected one of {', '.join(PICTURES)}")
    found = PICTURES[name]
    with Image.open(
        package_file("scikit-image", f"skimage/data/{found.file}", found.sha256)
    ) as image:
        return image.convert("RGB")
