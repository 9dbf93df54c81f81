"""Folders that can be written to, and files that are either whole or not there."""

import errno
import tempfile

from trpts.errors import TrptsError
from trpts.places import fresh_file


def make_folder(path):
    """Make a folder that can be written to; its path."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise TrptsError(
            f"cannot write into {path}: {_reason(error)}; make it writable or free some space"
        ) from error


def write_whole(path, text):
    """Write `text` to `path`; a reader always finds either the old file or the whole new one."""
    make_folder(path.parent)
    try:
        with fresh_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise TrptsError(
            f"cannot write {path}: {_reason(error)}; nothing of it was left behind"
        ) from error


def _reason(error):
    return {errno.ENOSPC: "the disk is full", errno.EACCES: "no permission"}.get(
        error.errno, error.strerror or error
    )
