"""Short names of texts, files, tensors: 16 hex digits of SHA-256, enough to tell them apart."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def short_hash(text: str) -> str:
    """First 16 hex digits of the SHA-256 of `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_hash(path: str | Path) -> str:
    """First 16 hex digits of a file's SHA-256; a file that stays the same is read once."""
    found = Path(path).stat()
    return _file_hash(Path(path), found.st_mtime_ns, found.st_size, found.st_ino)


@lru_cache(maxsize=1024)
def _file_hash(path, *stamp):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def tensor_hash(*tensors: "torch.Tensor") -> str:
    """First 16 hex digits of the SHA-256 of tensors' shapes, types and bytes."""
    digest = hashlib.sha256()
    for t in tensors:
        digest.update(f"{tuple(t.shape)} {t.dtype}".encode())
        digest.update(t.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
