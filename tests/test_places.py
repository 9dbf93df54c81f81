"""Places to write to: only regular files, one writer at a time, nothing half-written, nothing
behind a link.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from trpts.places import check_place, claimed, fresh_file


def pipe(path):
    os.mkfifo(path)


def bound_socket(path):
    os.chdir(path.parent)  # the names of sockets are short
    socket.socket(socket.AF_UNIX).bind(path.name)


SPECIAL = {
    "a named pipe": pipe,
    "a socket": bound_socket,
    "a folder": lambda path: path.mkdir(),
    "a device": lambda path: path.symlink_to("/dev/null"),
    "a link to a pipe": lambda path: (pipe(path.with_name("p")), path.symlink_to("p")),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "o"
    SPECIAL[kind](path)
    before = path.lstat()
    with pytest.raises(
        ValueError, match=r"o cannot be written: .*expected the name of a regular file"
    ):
        check_place(path)
    with pytest.raises(OSError), fresh_file(path) as temporary:  # noqa: PT011 - each system has its own words
        temporary.write_text("x")
    assert path.lstat() == before


@pytest.mark.parametrize("name", ["no/where", "file/below", "o" * 251, "é" * 120])
def test_a_name_that_cannot_be_is_refused(tmp_path, name):
    """The last two are names that the system takes, but not those of a temporary file beside
    them.
    """
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be written"):
        check_place(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_is_read_is_not_written(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to("a")
    check_place(tmp_path / "b", tmp_path / "a", None, "hub")
    for given in ("a", "link"):
        with pytest.raises(ValueError, match="is what is read: expected another name"):
            check_place(tmp_path / "a", tmp_path / given)


def test_links_are_replaced_and_not_followed(tmp_path):
    """Neither one at the place itself nor those that somebody put where a temporary file may
    come.
    """
    (tmp_path / "victim").write_text("precious")
    for name in ("o", "o.partial", ".o.partial", ".o.tmp"):
        (tmp_path / name).symlink_to("victim")
    with fresh_file(tmp_path / "o") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / "o").read_text() == "new"
    assert not (tmp_path / "o").is_symlink()


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "o"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), fresh_file(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        (temporary.parent / "what a library writes beside it").touch()
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_at_once(tmp_path):
    """Also under another name that shares the reports; the lock file is not left behind."""
    out = tmp_path / "o.safetensors"
    with claimed(out):
        for other in (out, tmp_path / "o", tmp_path / ".." / tmp_path.name / "o.safetensors"):
            with (
                pytest.raises(ValueError, match="is being written by another process"),
                claimed(other),
            ):
                pass
        with claimed(tmp_path / "p.safetensors"):
            pass
    with claimed(out):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_file_that_was_removed_holds_nobody(tmp_path, monkeypatch):
    """The first writer ends between our opening of the lock file and our lock: ours would be one
    that nobody sees.
    """
    out, acquire, removed = tmp_path / "o", FileLock.acquire, []

    def late(lock, *arguments, **options):
        found = acquire(lock, *arguments, **options)
        if not removed:
            removed.append(Path(lock.lock_file).unlink())
        return found

    monkeypatch.setattr(FileLock, "acquire", late)
    with claimed(out):
        monkeypatch.undo()
        with pytest.raises(ValueError, match="another process"), claimed(out):
            pass
    assert removed
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_killed_writer_holds_nothing_and_its_leftovers_go(tmp_path):
    out = tmp_path / "o[1].safetensors"
    code = "import sys\nfrom trpts.places import claimed, fresh_file\nout = sys.argv[1]\n"
    code += "with claimed(out), fresh_file(out) as temporary:\n"
    code += "    temporary.write_text('half'); print('writing', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"writing\n"
    with pytest.raises(ValueError, match="another process"), claimed(out):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    other = tmp_path / ".o[1].safetensors.else"  # somebody else's
    other.touch()
    assert len(list(tmp_path.iterdir())) == 3  # the lock, the folder, the other
    with claimed(out):
        assert not list(tmp_path.glob("*.partial"))
    assert list(tmp_path.iterdir()) == [other]
