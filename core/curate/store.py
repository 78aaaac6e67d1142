"""What is known of a folder's pictures, in an SQLite file: one row a file, and scores by content, scorer and prompt.

Scores hang on the content's hash, so a renamed, moved or copied file is not scored again. One process at a time writes
(`workplace.open_workplace` sees to it); others may read meanwhile.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import ImageRewardError
from ..pictures.scan import Entry
from .records import Picture, ScorerRecord, lora_names, prompt_key

PAGE = 500  # rows at a time; SQLite takes 999 parameters everywhere
FILE_COLUMNS = (
    *("path", "size", "mtime_ns", "hash", "prompt", "prompt_key", "negative", "model", "loras", "program"),
    *("width", "height", "error", "labels", "first_name", "prompt_from", "uncertain"),
)
_FILE = ", ".join(FILE_COLUMNS)
_TABLES = {
    "files": (*FILE_COLUMNS, "run"),
    "scores": ("hash", "scorer", "prompt_key", "score", "parts"),
    "scorers": ("key", "title", "reads_prompt", "mean", "std"),
    "runs": ("run", "finished"),
}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, hash BLOB, prompt TEXT, prompt_key BLOB, negative TEXT,
    model TEXT, loras TEXT, program TEXT, width INTEGER, height INTEGER, error TEXT, labels TEXT, first_name BLOB,
    prompt_from TEXT, uncertain TEXT, run INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scores (
    hash BLOB, scorer TEXT, prompt_key BLOB, score REAL, parts TEXT, PRIMARY KEY (hash, scorer, prompt_key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scorers (key TEXT PRIMARY KEY, title TEXT, reads_prompt INTEGER, mean REAL, std REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (run INTEGER PRIMARY KEY, finished INTEGER DEFAULT 0);
"""
_VERSION = 2
_WAIT_SECONDS = 30.0  # for a reader or writer in the middle of something

# What SQLite says, in lower case (Python 3.10 has no error codes) -> what there is to say and do.
_MISHAPS = (
    (("locked", "busy"), "another program is writing to it. Try again when that one has ended"),
    (("disk is full",), "the disk is full. Free some space, or choose another place with --store"),
    (
        ("readonly", "unable to open", "disk i/o", "permission", "authoriz"),
        "it cannot be opened or written there ({error}). Choose another place with --store",
    ),
)


class StoreDamaged(ImageRewardError):
    """A file is no store, one of another version, or one that lost its order."""


class Store:
    """An open store; may be used from several threads. Paths below `base` are kept relative to it.

    Args:
        path: the SQLite file; it is made where there is none.
        base: the store's own folder, if not given.

    Raises:
        StoreDamaged: the file is no store of this version.
        ImageRewardError: it cannot be opened.
    """

    def __init__(self, path: Path, base: Path | None = None) -> None:
        self.path = Path(os.path.realpath(path))
        self._base = Path(os.path.realpath(base)) if base is not None else self.path.parent
        self._prefix = os.path.join(self._base, "")
        self._lock = threading.RLock()
        with self._as_our_errors():
            self._db = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, check_same_thread=False)
        try:
            with self._as_our_errors():
                self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        """The tables are made in a new file alone: opening a store that is there writes nothing."""
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if version == 0 and not tables:
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        elif version != _VERSION:
            other = "a store of another version" if "scorers" in tables else "a database of another program"
            raise StoreDamaged(f"{self.path} is {other}")
        for table, columns in _TABLES.items():
            self._db.execute(f"SELECT {', '.join(columns)} FROM {table} LIMIT 0")
        # Rankings are temporary tables; some builds keep these in memory.
        self._db.executescript("PRAGMA synchronous = NORMAL; PRAGMA temp_store = FILE;")

    @contextmanager
    def _as_our_errors(self) -> Iterator[None]:
        """One at a time; what SQLite raises becomes a sentence with the right advice."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                text = str(error).lower()
                for words, message in _MISHAPS:
                    if any(word in text for word in words):
                        raise ImageRewardError(f"{self.path}: {message.format(error=error)}.") from error
                raise StoreDamaged(f"{self.path} is damaged or not a store ({error})") from error

    def close(self) -> None:
        with self._as_our_errors():
            try:
                self._db.commit()
            finally:
                self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            with suppress(ImageRewardError):  # the first error tells more
                self.close()

    def commit(self) -> None:
        with self._as_our_errors():
            self._db.commit()

    # -- runs and scorers ----------------------------------------------------------------------------------------------

    def begin_run(self) -> int:
        """A number for this pass over the files, which `finish_run` ends."""
        with self._as_our_errors():
            run = self._db.execute("INSERT INTO runs DEFAULT VALUES").lastrowid
            self._db.commit()
        assert run is not None
        return run

    def finish_run(self, run: int) -> None:
        """Every file was met: what was not met in this run is no longer there."""
        self._write("UPDATE runs SET finished = 1 WHERE run = ?", (run,))
        self.commit()

    def last_run(self) -> int:
        """The last pass that met every file, 0 if there is none.

        A pass that is going on, or was stopped, changes nothing but what it has met: a reader of the files from this run
        *on* sees at least what the last pass left.
        """
        return int(self.query("SELECT COALESCE(MAX(run), 0) FROM runs WHERE finished")[0][0])

    def add_scorer(self, record: ScorerRecord) -> None:
        values = (record.key, record.title, record.reads_prompt, record.mean, record.std)
        self._write("INSERT OR REPLACE INTO scorers VALUES (?, ?, ?, ?, ?)", values)

    def scorers(self) -> list[ScorerRecord]:
        """Every scorer that ever scored here, the one with the most scores first."""
        query = """SELECT key, title, reads_prompt, mean, std FROM scorers
                   ORDER BY (SELECT COUNT(*) FROM scores WHERE scorer = key) DESC, title"""
        return [ScorerRecord(k, t, bool(r), m, s) for k, t, r, m, s in self.query(query)]

    # -- files and scores ----------------------------------------------------------------------------------------------

    def known(self, paths: Sequence[Path]) -> dict[Path, Picture]:
        """Those of at most 500 paths that are in the store."""
        keys = [self._key(path) for path in paths]
        rows = self.query(f"SELECT {_FILE} FROM files WHERE path IN ({marks(len(keys))})", keys)
        return {picture.path: picture for picture in map(self.picture, rows)}

    def put(self, pictures: Iterable[Picture], run: int) -> None:
        rows = [(*self._row(picture), run) for picture in pictures]
        self._write_all(f"INSERT OR REPLACE INTO files ({_FILE}, run) VALUES ({marks(len(FILE_COLUMNS) + 1)})", rows)

    def met(self, paths: Iterable[Path], run: int) -> None:
        """Marks unchanged files as seen in this run."""
        self._write_all("UPDATE files SET run = ? WHERE path = ?", [(run, self._key(path)) for path in paths])

    def has_score(self, picture_hash: bytes, record: ScorerRecord, prompt: str | None) -> bool:
        query = "SELECT 1 FROM scores WHERE hash = ? AND scorer = ? AND prompt_key = ?"
        return bool(self.query(query, (picture_hash, record.key, record.prompt_key(prompt))))

    def score_of(self, picture: Picture, record: ScorerRecord) -> float | None:
        query = "SELECT score FROM scores WHERE hash = ? AND scorer = ? AND prompt_key = ?"
        found = self.query(query, (picture.hash, record.key, record.prompt_key(picture.prompt)))
        return found[0][0] if found else None

    def lacking(self, scorer: str, reads_prompt: bool) -> int:
        """How many pictures of the last finished run could have a score of this scorer, and have none."""
        key = "f.prompt_key" if reads_prompt else "x''"
        query = f"""SELECT COUNT(*) FROM files f WHERE f.run >= ? AND f.error = '' AND (f.prompt IS NOT NULL OR NOT ?)
                    AND NOT EXISTS (SELECT 1 FROM scores s WHERE s.hash = f.hash AND s.scorer = ? AND s.prompt_key = {key})"""
        return int(self.query(query, (self.last_run(), reads_prompt, scorer))[0][0])

    def put_scores(
        self, record: ScorerRecord, rows: Iterable[tuple[bytes, str | None, float | None, Mapping[str, float]]]
    ) -> None:
        """(hash, prompt, score, parts) a picture."""
        values = [
            (h, record.key, record.prompt_key(p), s, json.dumps(dict(parts)) if parts else "")
            for h, p, s, parts in rows
        ]
        self._write_all("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?)", values)

    def relabelled(self, old: Picture, entry: Entry, new_hash: bytes, labels: str) -> None:
        """The file's bytes changed but its pixels did not: its scores hold for the new content, too."""
        copied = "INSERT OR REPLACE INTO scores SELECT ?, scorer, prompt_key, score, parts FROM scores WHERE hash = ?"
        self._write(copied, (new_hash, old.hash))
        self._write(
            "UPDATE files SET size = ?, mtime_ns = ?, hash = ?, labels = ? WHERE path = ?",
            (entry.size, entry.mtime_ns, new_hash, labels, self._key(entry.path)),
        )

    def moved(self, old: Path, new: Path) -> None:
        found = self.query("SELECT first_name FROM files WHERE path = ?", (self._key(old),))
        if found:
            values = (self._key(new), found[0][0] or os.fsencode(old.name), self.last_run(), self._key(old))
            self._write("UPDATE OR REPLACE files SET path = ?, first_name = ?, run = ? WHERE path = ?", values)

    def forget(self, path: Path) -> None:
        self._write("DELETE FROM files WHERE path = ?", (self._key(path),))

    def unscored(self, run: int) -> Iterator[Picture]:
        """The pictures of a run that are broken (`error` says why) or have no prompt."""
        query = f"""SELECT {_FILE} FROM files WHERE run = ? AND (error <> '' OR prompt IS NULL) AND path > ?
                    ORDER BY path LIMIT {PAGE}"""
        page = [(b"",)]
        while page := self.query(query, (run, page[-1][0])):
            yield from map(self.picture, page)

    # -- for what reads the store in ways of its own -------------------------------------------------------------------

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a statement."""
        with self._as_our_errors():
            return self._db.execute(sql, values).fetchall()

    def stream(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        """The rows of a statement one by one. Other threads wait until the last one is taken."""
        with self._as_our_errors():
            yield from self._db.execute(sql, values)

    def state(self) -> tuple[int, int]:
        """Another one than before if anything was written meanwhile, by this process or another."""
        with self._as_our_errors():
            return self._db.execute("PRAGMA data_version").fetchone()[0], self._db.total_changes

    def picture(self, row: Sequence[Any]) -> Picture:
        """Of a row of FILE_COLUMNS, which may end with score and parts."""
        path, size, mtime_ns, digest, prompt, _, negative, model, loras, program, *others = row
        width, height, error, labels, first_name, prompt_from, uncertain, score, parts = (*others, None, "")[:9]
        try:
            return Picture(
                *(Path(self.absolute(path)), size, mtime_ns, digest, prompt, negative, model, lora_names(loras)),
                *(program, width, height, error, labels, os.fsdecode(first_name), prompt_from, uncertain),
                *(score, json.loads(parts) if parts else {}),
            )
        except (TypeError, ValueError) as error:
            raise StoreDamaged(f"{self.path} is damaged ({error})") from error

    def _write(self, sql: str, values: Sequence[Any]) -> None:
        with self._as_our_errors():
            self._db.execute(sql, values)

    def _write_all(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._as_our_errors():
            self._db.executemany(sql, rows)

    def absolute(self, path: bytes) -> str:
        """A path as it stands in the store -> the absolute one."""
        return os.path.join(self._base, os.fsdecode(path))

    def _key(self, path: Path) -> bytes:
        return os.fsencode(os.path.abspath(path).removeprefix(self._prefix))

    def _row(self, p: Picture) -> tuple[Any, ...]:
        loras = json.dumps(p.loras) if p.loras else ""
        return (
            *(self._key(p.path), p.size, p.mtime_ns, p.hash, _storable(p.prompt), prompt_key(p.prompt)),
            *(_storable(p.negative), _storable(p.model), _storable(loras), p.program, p.width, p.height),
            *(_storable(p.error), p.labels, os.fsencode(p.first_name)),
            *(_storable(p.prompt_from), _storable(p.uncertain)),
        )


def _storable(text: str | None) -> str | None:
    """Without halves of surrogate pairs, which SQLite does not take."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def marks(count: int) -> str:
    """Places for so many values in a statement."""
    return ", ".join("?" * count)
