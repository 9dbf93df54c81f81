"""Places to write to: checked before any work, held by one writer, filled whole or not at all."""

import glob
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

SPECIAL = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def check_place(path: str | Path, *inputs: str | Path | None) -> None:
    """Raise ValueError unless a file can be written at `path`, over none of `inputs`.

    A temporary place is made and removed as `fresh_file` makes it, so that permissions, a read-only
    disk and names that are too long show here. What is there must be a regular file: a pipe or a
    device would be replaced by a file.
    """
    path = Path(path)
    try:
        _refuse_special(path)
        _temporary_folder(path).rmdir()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written: {error.strerror or error}; expected the name of a regular "
            "file in a folder that exists and may be written to"
        ) from error
    if any(
        path.exists() and Path(given).exists() and path.samefile(given)
        for given in inputs
        if given is not None
    ):
        raise ValueError(f"{path} is what is read: expected another name to write to")


@contextmanager
def fresh_file(path: str | Path) -> Iterator[Path]:
    """A temporary path to write to; at the end, the file moves to `path`. An error leaves `path` as
    it was.

    The temporary file lies in a folder of its own beside `path`: its name cannot be guessed, so
    that nobody can put a link there, and what a library writes beside the file goes with the
    folder. A link at `path` is replaced; what it leads to stays.
    raises  OSError: the disk is full, the folder cannot be written to, `path` is no regular file
    """
    path = Path(path)
    _refuse_special(path)
    folder = _temporary_folder(path)
    try:
        temporary = folder / path.name
        yield temporary
        with temporary.open("rb+") as file:
            # before it takes the name: after a power cut, the old file or the whole new one
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # some libraries write for the owner alone
        temporary.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fresh_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder to fill; at the end, it takes the name `path`. An error leaves nothing.

    raises  ValueError: something is there already, or the folder cannot be made
    """
    path = Path(path)
    try:
        if os.path.lexists(path):
            raise FileExistsError(None, "it is there already")
        temporary = _temporary_folder(path)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written: {error.strerror or error}; expected the name of a new "
            "folder, in a folder that exists and may be written to"
        ) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def claimed(path: str | Path, *others: str | Path) -> Iterator[None]:
    """Hold `path` for one process at a time, and remove what killed writers of `path` and `others`
    left behind.

    The lock is a file beside `path`; it goes with the process, however that ends. Names with and
    without .safetensors share it, as they share a report.
    raises  ValueError: another process holds it
    """
    path = Path(path)
    lock = FileLock(path.with_name(f".{path.name.removesuffix('.safetensors')}.lock"), timeout=0)
    try:
        while not _locked(lock):
            pass
    except Timeout:
        raise ValueError(
            f"{path} is being written by another process: expected another name, or a later try"
        ) from None
    try:
        remove_leftovers(path, *others)
        yield
    finally:
        # removed while held: who has opened it meanwhile sees that in `_locked`
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


def _locked(lock):
    """Take a lock; False if its file came or went meanwhile: it might keep nobody else out."""
    before = _inode(lock.lock_file)
    lock.acquire()
    if before is not None and before == _inode(lock.lock_file):
        return True
    lock.release()
    return False


def _inode(path):
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return None


def remove_leftovers(*paths: str | Path) -> None:
    """Remove what killed writers of these paths left; call it while nobody else writes there."""
    for path in map(Path, paths):
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
            shutil.rmtree(leftover, ignore_errors=True)


def _temporary_folder(path):
    return Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial"))


def _refuse_special(path):
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise FileExistsError(f"it is {SPECIAL.get(stat.S_IFMT(mode), 'a device')}")
