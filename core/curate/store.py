"""What is known of a folder's pictures, in an SQLite file: one row a file, and scores by content, scorer and prompt.

Scores hang on the content's hash, so a renamed, moved or copied file is not scored again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ImageRewardError
from ..pictures.scan import Entry
from ..scorers.base import ScorerInfo

FILE_NAME = ".imagereward.sqlite3"
PAGE = 500  # rows at a time; SQLite takes 999 parameters everywhere
FILE_COLUMNS = (
    *("path", "size", "mtime_ns", "hash", "prompt", "prompt_key", "negative", "model", "loras", "program"),
    *("width", "height", "error", "labels", "first_name"),
)
_FILE = ", ".join(FILE_COLUMNS)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, hash BLOB, prompt TEXT, prompt_key BLOB, negative TEXT,
    model TEXT, loras TEXT, program TEXT, width INTEGER, height INTEGER, error TEXT, labels TEXT, first_name BLOB,
    run INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scores (
    hash BLOB, scorer TEXT, prompt_key BLOB, score REAL, parts TEXT, PRIMARY KEY (hash, scorer, prompt_key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scorers (key TEXT PRIMARY KEY, title TEXT, reads_prompt INTEGER, mean REAL, std REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (run INTEGER PRIMARY KEY);
"""
_VERSION = 1


@dataclass(frozen=True)
class Judge:
    """A scorer as the store knows it."""

    key: str
    title: str
    reads_prompt: bool
    mean: float
    std: float

    @classmethod
    def of(cls, key: str, info: ScorerInfo) -> Judge:
        return cls(key, info.title, info.reads_prompt, info.mean, info.std)

    def prompt_key(self, prompt: str | None) -> bytes:
        """What the score depends on besides the picture."""
        return prompt_key(prompt) if self.reads_prompt else b""


@dataclass(frozen=True)
class Picture:
    """One file and what is known of it."""

    path: Path
    size: int = 0
    mtime_ns: int = 0
    hash: bytes = b""
    prompt: str | None = None  # as scorers read it
    negative: str = ""
    model: str = ""
    loras: tuple[str, ...] = ()
    program: str = ""  # "": neither the file nor a text beside it had a prompt
    width: int = 0
    height: int = 0
    error: str = ""  # why it could not be read
    labels: str = ""  # the scores last written into it, as JSON
    first_name: str = ""  # its name before any renaming
    score: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)

    def unchanged(self, entry: Entry) -> bool:
        return (self.size, self.mtime_ns) == (entry.size, entry.mtime_ns)


def prompt_key(prompt: str | None) -> bytes:
    return hashlib.blake2b((prompt or "").encode("utf-8", "surrogatepass"), digest_size=12).digest()


def lora_names(column: str) -> tuple[str, ...]:
    return tuple(json.loads(column)) if column else ()


def search_text(name: str, prompt: str | None, model: str, loras: Sequence[str]) -> str:
    """Where a search looks for its words."""
    return " ".join((name, prompt or "", model, *loras)).lower()


def content_hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def default_store(root: Path) -> Path:
    """Beside the images, where it moves along with them; in the user's cache where that folder cannot be written."""
    if os.access(root, os.W_OK) or (root / FILE_NAME).exists():
        return root / FILE_NAME
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imagereward"
    cache.mkdir(parents=True, exist_ok=True)
    return cache / f"{hashlib.blake2b(os.fsencode(os.path.realpath(root)), digest_size=8).hexdigest()}.sqlite3"


class Store:
    """An open store; may be used from several threads. Paths below its own folder are kept relative to it."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        self._base = self.path.parent
        self._prefix = os.path.join(self._base, "")
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(self.path, timeout=30, check_same_thread=False)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise ImageRewardError(f"{self.path} was written by another version; delete it to score anew")
            self._db.executescript(f"{_SCHEMA} PRAGMA user_version = {_VERSION}; PRAGMA synchronous = NORMAL;")
            self._db.execute(
                "PRAGMA temp_store = FILE"
            )  # rankings are temporary tables; some builds keep these in memory
        except sqlite3.Error as error:
            raise ImageRewardError(
                f"{self.path} cannot be used as a store ({error}); delete it or choose another with --store"
            ) from error

    def close(self) -> None:
        with self._lock:
            self._db.commit()
            self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def commit(self) -> None:
        with self._lock:
            self._db.commit()

    def begin_run(self) -> int:
        """A number for this pass over the files; `ranked` shows those that the last pass met."""
        with self._lock:
            run = self._db.execute("INSERT INTO runs DEFAULT VALUES").lastrowid
            self._db.commit()
        assert run is not None
        return run

    def last_run(self) -> int:
        return int(self.query("SELECT COALESCE(MAX(run), 0) FROM runs")[0][0])

    def add_judge(self, judge: Judge) -> None:
        with self._lock:
            values = (judge.key, judge.title, judge.reads_prompt, judge.mean, judge.std)
            self._db.execute("INSERT OR REPLACE INTO scorers VALUES (?, ?, ?, ?, ?)", values)

    def judges(self) -> list[Judge]:
        """Every scorer that ever scored here, the one with the most scores first."""
        query = """SELECT key, title, reads_prompt, mean, std FROM scorers
                   ORDER BY (SELECT COUNT(*) FROM scores WHERE scorer = key) DESC, title"""
        return [Judge(k, t, bool(r), m, s) for k, t, r, m, s in self.query(query)]

    # -- files and scores ----------------------------------------------------------------------------------------------

    def known(self, paths: Sequence[Path]) -> dict[Path, Picture]:
        """Those of at most 500 paths that are in the store."""
        keys = [self._key(path) for path in paths]
        rows = self.query(f"SELECT {_FILE} FROM files WHERE path IN ({marks(len(keys))})", keys)
        return {picture.path: picture for picture in map(self.picture, rows)}

    def put(self, pictures: Iterable[Picture], run: int) -> None:
        rows = [(*self._row(picture), run) for picture in pictures]
        with self._lock:
            self._db.executemany(
                f"INSERT OR REPLACE INTO files ({_FILE}, run) VALUES ({marks(len(FILE_COLUMNS) + 1)})", rows
            )

    def met(self, paths: Iterable[Path], run: int) -> None:
        """Marks unchanged files as seen in this run."""
        with self._lock:
            self._db.executemany("UPDATE files SET run = ? WHERE path = ?", [(run, self._key(path)) for path in paths])

    def has_score(self, picture_hash: bytes, judge: Judge, prompt: str | None) -> bool:
        query = "SELECT 1 FROM scores WHERE hash = ? AND scorer = ? AND prompt_key = ?"
        return bool(self.query(query, (picture_hash, judge.key, judge.prompt_key(prompt))))

    def score_of(self, picture: Picture, judge: Judge) -> float | None:
        query = "SELECT score FROM scores WHERE hash = ? AND scorer = ? AND prompt_key = ?"
        found = self.query(query, (picture.hash, judge.key, judge.prompt_key(picture.prompt)))
        return found[0][0] if found else None

    def put_scores(
        self, judge: Judge, rows: Iterable[tuple[bytes, str | None, float | None, Mapping[str, float]]]
    ) -> None:
        """(hash, prompt, score, parts) a picture."""
        values = [
            (h, judge.key, judge.prompt_key(p), s, json.dumps(dict(parts)) if parts else "") for h, p, s, parts in rows
        ]
        with self._lock:
            self._db.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?)", values)

    def relabelled(self, old: Picture, entry: Entry, new_hash: bytes, labels: str) -> None:
        """The file's bytes changed but its pixels did not: its scores hold for the new content, too."""
        with self._lock:
            self._db.execute(
                "INSERT OR REPLACE INTO scores SELECT ?, scorer, prompt_key, score, parts FROM scores WHERE hash = ?",
                (new_hash, old.hash),
            )
            self._db.execute(
                "UPDATE files SET size = ?, mtime_ns = ?, hash = ?, labels = ? WHERE path = ?",
                (entry.size, entry.mtime_ns, new_hash, labels, self._key(entry.path)),
            )

    def moved(self, old: Path, new: Path) -> None:
        with self._lock:
            row = self._db.execute("SELECT first_name FROM files WHERE path = ?", (self._key(old),)).fetchone()
            if row is not None:
                values = (self._key(new), row[0] or os.fsencode(old.name), self.last_run(), self._key(old))
                self._db.execute("UPDATE OR REPLACE files SET path = ?, first_name = ?, run = ? WHERE path = ?", values)

    def forget(self, path: Path) -> None:
        with self._lock:
            self._db.execute("DELETE FROM files WHERE path = ?", (self._key(path),))

    # -- results -------------------------------------------------------------------------------------------------------

    def unscored(self) -> Iterator[Picture]:
        """The pictures of the last run that are broken (`error` says why) or have no prompt."""
        query = f"""SELECT {_FILE} FROM files WHERE run = ? AND (error <> '' OR prompt IS NULL) AND path > ?
                    ORDER BY path LIMIT {PAGE}"""
        run, page = self.last_run(), [(b"",)]
        while page := self.query(query, (run, page[-1][0])):
            yield from map(self.picture, page)

    # -- for what reads the store in ways of its own -------------------------------------------------------------------

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a statement."""
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def stream(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        """The rows of a statement one by one. Other threads wait until the last one is taken."""
        with self._lock:
            yield from self._db.execute(sql, values)

    def state(self) -> tuple[int, int]:
        """Another one than before if anything was written meanwhile, by this process or another."""
        with self._lock:
            return self._db.execute("PRAGMA data_version").fetchone()[0], self._db.total_changes

    def picture(self, row: Sequence[Any]) -> Picture:
        """Of a row of FILE_COLUMNS, which may end with score and parts."""
        path, size, mtime_ns, digest, prompt, _, negative, model, loras, program, *others = row
        width, height, error, labels, first_name, score, parts = (*others, None, "")[:7]
        return Picture(
            *(self._base / os.fsdecode(path), size, mtime_ns, digest, prompt, negative, model, lora_names(loras)),
            *(program, width, height, error, labels, os.fsdecode(first_name)),
            *(score, json.loads(parts) if parts else {}),
        )

    def _key(self, path: Path) -> bytes:
        return os.fsencode(os.path.abspath(path).removeprefix(self._prefix))

    def _row(self, p: Picture) -> tuple[Any, ...]:
        loras = json.dumps(p.loras) if p.loras else ""
        return (
            *(self._key(p.path), p.size, p.mtime_ns, p.hash, _storable(p.prompt), prompt_key(p.prompt)),
            *(_storable(p.negative), _storable(p.model), _storable(loras), p.program, p.width, p.height),
            *(_storable(p.error), p.labels, os.fsencode(p.first_name)),
        )


def _storable(text: str | None) -> str | None:
    """Without halves of surrogate pairs, which SQLite does not take."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def marks(count: int) -> str:
    """Places for so many values in a statement."""
    return ", ".join("?" * count)
