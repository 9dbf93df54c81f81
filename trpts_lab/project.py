"""Where things stand: the folders of a checkout."""

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from trpts.errors import TrptsError
from trpts_lab.files import make_folder
from trpts_lab.store import Store

MARKS = ("notebooks", "profiles")  # a checkout is known by these folders


@dataclass(frozen=True)
class Project:
    """A checkout of this project, or a small one made by a test."""

    root: Path

    @classmethod
    def find(cls, start="."):
        """The checkout around `start`."""
        start = Path(start).resolve()
        for folder in (start, *start.parents):
            if all((folder / mark).is_dir() for mark in MARKS):
                return cls(folder)
        raise TrptsError(
            f"{start} is not inside a checkout of trpts: no folder above it holds "
            f"{' and '.join(MARKS)}"
        )

    @property
    def notebooks(self):
        return self.root / "notebooks"

    @property
    def build(self):
        return self.root / "build"

    @contextmanager
    def lock(self, name="lock"):
        """Lock the build folder for one command at a time; the lock ends with the process.

        name    of another lock, for work that touches only its own files there
        """
        lock = FileLock(make_folder(self.build) / name, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise TrptsError(
                f"another trpts command is at work in {self.build}: wait for it or stop it"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def runs(self, profile):
        """Executed notebooks."""
        return self.build / "runs" / profile

    @property
    def committed(self):
        """The folder of the committed records."""
        return self.root / "data" / "results"

    def results(self, profile):
        """The `Store` of a profile's records: those of the quick profile come and go, the others
        are committed.

        The environment variable TRPTS_RESULTS, set by `trpts regress` for the notebooks it runs,
        points elsewhere.
        """
        if os.environ.get("TRPTS_RESULTS"):
            return Store(os.environ["TRPTS_RESULTS"], project=self)
        return self.store(profile)

    def store(self, profile):
        """The `Store` of a profile, whatever a run is set to: what tables and figures read."""
        loose = self.build / "results" / profile
        packed = None if profile == "quick" else self.committed
        return Store(loose, packed, profile, self)
