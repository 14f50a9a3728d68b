"""Logs as text: JSON lines, after a header line one record a line. For exchange, for diffs, for archives.

A measurement of a whole model is a line ``{"model_run": ...}``, from version 2 of the format on.

export_records(log, "resnet50.jsonl")            import_records("resnet50.jsonl", log)
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import LogError
from ..whole_file import whole_file
from .database import Database, open_log
from .model_run import ModelRun
from .record import Record
from .sqlite_file import is_sqlite

FORMAT = "luthier-log"
VERSION = 2


def export_records(source: Database | Iterable[Record], path: str | os.PathLike[str]) -> int:
    """Write all records, and of a log its model runs, to ``path``; the file appears complete or not at all.

    Returns how many records were written.
    """
    final = Path(path)
    if not final.parent.is_dir():
        raise LogError(f"export {final}: the directory {final.parent} does not exist; create it first")
    count = 0
    try:
        with whole_file(final) as raw, io.TextIOWrapper(raw, encoding="utf-8") as f:
            f.write(json.dumps({"format": FORMAT, "version": VERSION}) + "\n")
            for record in source.records() if isinstance(source, Database) else source:
                f.write(json.dumps(record.to_json(), allow_nan=False, separators=(",", ":")) + "\n")
                count += 1
            for run in source.model_runs() if isinstance(source, Database) else ():
                f.write(json.dumps({"model_run": run.to_json()}, allow_nan=False, separators=(",", ":")) + "\n")
    except OSError as e:
        raise LogError(f"export {final}: {e.strerror}; check the path and the free space") from None
    return count


def read_records(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Yield the records of an exported file. Raises LogError with the number of a line that is wrong."""
    return (entry for entry in read_export(path) if isinstance(entry, Record))


def read_export(path: str | os.PathLike[str]) -> Iterator[Record | ModelRun]:
    """Yield everything in an exported file. Raises LogError with the number of a line that is wrong."""
    try:
        with Path(path).open(encoding="utf-8") as f:
            header = _parse(path, 1, f.readline())
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise LogError(f"{path}: this is not an exported Luthier log; its first line should say {FORMAT!r}")
            if not isinstance(header.get("version"), int) or header["version"] > VERSION:
                raise LogError(
                    f"{path}: it has format {header.get('version')}, this Luthier reads up to {VERSION}; update Luthier"
                )
            for number, line in enumerate(f, 2):
                if not line.strip():
                    continue
                try:
                    data = _parse(path, number, line)
                    if isinstance(data, dict) and "model_run" in data:
                        yield ModelRun.from_json(data["model_run"])
                    else:
                        yield Record.from_json(data)
                except LogError as e:
                    raise e if str(e).startswith(f"{path}:") else LogError(f"{path}: line {number}: {e}") from None
    except OSError as e:
        raise LogError(f"{path}: cannot be read: {e.strerror}; check the path") from None
    except UnicodeDecodeError:
        raise LogError(f"{path}: this is not an exported Luthier log but a binary file") from None


def import_records(path: str | os.PathLike[str], log: Database) -> int:
    """Merge an exported file into ``log``, all of it or nothing; returns how many records changed the log.

    Of two records with one identity one stays, see :meth:`.database.Database.merge`.
    """
    found = list(read_export(path))
    return log.merge([r for r in found if isinstance(r, Record)], [r for r in found if isinstance(r, ModelRun)])


def merge_logs(sources: Iterable[str | os.PathLike[str]], log: Database) -> int:
    """Merge other logs (databases or JSON lines, told by their content) into ``log``."""
    changed = 0
    for source in sources:
        if _is_database(source):
            with open_log(source, "r") as other:
                changed += log.merge(list(other.records()), other.model_runs())
        else:
            changed += import_records(source, log)
    return changed


def _is_database(path: str | os.PathLike[str]) -> bool:
    try:
        return is_sqlite(Path(path))
    except OSError as e:
        raise LogError(f"{path}: cannot be read: {e.strerror}; check the path") from None


def _parse(path: str | os.PathLike[str], number: int, line: str) -> object:
    try:
        return json.loads(line, parse_constant=_refuse)
    except ValueError:
        what = "is cut off; the file is truncated" if not line.endswith("\n") else "is not JSON"
        raise LogError(f"{path}: line {number} {what}; export the log again") from None


def _refuse(constant: str) -> float:
    """JSON has no NaN and no infinity, though Python reads them."""
    raise ValueError(constant)
