"""The store of results: no number reaches a page without a record in it.

    data/results/<experiment>.jsonl   one record a line, sorted by its configuration
    data/results/provenance.json      {id: commit, versions, machine}; a record names the id of its
                                      own
    build/results/<profile>/*.json    single records of runs since the last `pack`, each with its
                                      whole provenance

A record is found by its whole configuration, seed and device included: the same run has one record,
and a run whose record is there and current need not be done again (`trpts_lab.measured`).

Runs write single records, and only `pack` writes the files in data/results/. Both files and single
records are either whole or not there, and everything is checked when it is read.
"""

import shutil
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from trpts.errors import TrptsError
from trpts.hashes import short_hash
from trpts_lab.files import make_folder, write_whole
from trpts_lab.records import (
    PROVENANCE,
    id_of,
    key_of,
    kind_of,
    later,
    lines_of,
    read_file,
    read_single,
    record_name,
    stamp_of,
    text_of,
    validate,
)


class NotThere(TrptsError):
    """Records not made yet; a page may do without them, but not without unreadable ones."""


class Store:
    """Records of one profile: the files that are committed, if it has any, and single records
    beside them.

    loose    folder of single records
    packed   folder of the committed files, or None: the quick profile has single records only
    profile  which records of the committed files are this store's
    project  the `Project` whose weights and data its runs use; None: the one around the working
             directory
    """

    def __init__(self, loose: Path, packed: Path | None = None, profile=None, project=None):
        self.loose, self.packed, self.profile = Path(loose), packed and Path(packed), profile
        self.project = project

    def records(self, kind: str = "*") -> list[dict]:
        """All records of a kind, sorted by configuration; of a run that has two, the `later`."""
        single = {
            key_of(r["config"]): r
            for r in map(read_single, self.single_files(kind))
            if r is not None
        }
        found = {}
        for path in self.files(kind):
            found |= {
                key: r
                for key, r in read_file(path).items()
                if r["config"]["profile"] == self.profile
            }
        found |= {key: later(r, found.get(key)) for key, r in single.items()}
        return [found[key] for key in sorted(found)]

    def find(self, config: dict) -> dict | None:
        """The record of a configuration, "kind" included, or None."""
        path = self.loose / record_name(config)
        single = read_single(path) if path.is_file() else None
        packed = [read_file(path).get(key_of(config)) for path in self.files(config["kind"])]
        return later(single, packed[0] if packed else None)

    def found(self, cells: Iterable[tuple]) -> list[dict]:
        """The records of the cells [(experiment, configuration)] that are there, current or not."""
        records = (
            self.find({"kind": kind_of(experiment), **config}) for experiment, config in cells
        )
        return [record for record in records if record is not None]

    def add(self, record: dict) -> Path:
        """Validate a record and write it as a single file; its path. Waits while somebody packs."""
        path = self.loose / record_name(record["config"])
        validate(record, path.name)
        with self._writing():
            write_whole(path, text_of(record, indent=1) + "\n")
        return path

    def digest(self, kind: str = "*") -> str:
        """A hash of all records of a kind: packing them does not change it."""
        paths = [*self.files(kind), *self.single_files(kind)]
        return _digest(
            (self.loose, self.packed, self.profile),
            kind,
            tuple((path, stamp_of(path)) for path in paths),
        )

    def files(self, kind: str = "*") -> list[Path]:
        """The committed files."""
        return [] if self.packed is None else sorted(self.packed.glob(f"{kind}.jsonl"))

    def single_files(self, kind: str = "*") -> list[Path]:
        """The single records that are not packed."""
        return sorted(self.loose.glob(f"{kind}-*.json"))

    def pack(self) -> int:
        """Move the single records into the committed files; how many. Those who pack at once wait
        for each other.

        raises  TrptsError: a file could not be read or written. Every record is then where it was,
                or in both places
        """
        if self.packed is None or not self.single_files():
            return 0
        with self._writing():
            for folder in (self.loose, make_folder(self.packed)):  # what killed writers left
                for leftover in folder.glob(".*.partial"):
                    shutil.rmtree(leftover, ignore_errors=True)
            packed, fresh, broken = [], {}, []
            for path in self.single_files():
                try:
                    record = read_single(path)
                except TrptsError as error:
                    broken.append(str(error))
                else:
                    packed.append(path)
                    fresh.setdefault(record["config"]["kind"], []).append(record)
            self._merge(fresh)
            for path in packed:
                path.unlink()
        if broken:
            raise TrptsError(
                f"{broken[0]}; remove the file to measure again ({len(broken)} not packed)"
            )
        return len(packed)

    @contextmanager
    def _writing(self):
        """Lock the single records and the committed files, which profiles share, for one writer."""
        lock = FileLock(make_folder(self.loose.parent) / "results.lock")
        with lock:
            yield

    def _merge(self, fresh):
        """Rewrite the committed files with `fresh` {kind: records}: provenance, then records."""
        files = {path.stem: read_file(path) for path in self.files()}
        # old ones too: a reader may still be at it
        every = [r for found in files.values() for r in found.values()]
        every += [r for records in fresh.values() for r in records]
        made = {id_of(r["provenance"]): r["provenance"] for r in every}
        try:
            write_whole(self.packed / PROVENANCE, text_of(made, indent=1) + "\n")
            for kind, records in sorted(fresh.items()):
                old = files.get(kind, {})
                merged = old | {
                    (key := key_of(r["config"])): later(r, old.get(key)) for r in records
                }
                write_whole(self.packed / f"{kind}.jsonl", lines_of(merged.values()))
        except TrptsError as error:
            raise TrptsError(
                f"{error}; the new records stay in {self.loose}: mend it, then `trpts pack`"
            ) from None


@lru_cache(maxsize=64)
def _digest(where, kind, stamps):
    return short_hash(lines_of(Store(*where).records(kind)))


@contextmanager
def packed_at_the_end(store: Store):
    """Pack at the end, however it comes; an error of packing hides none that came before."""
    try:
        yield
    except BaseException:
        with suppress(TrptsError):
            store.pack()
        raise
    store.pack()
