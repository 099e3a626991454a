"""Rows out of local files (.txt .jsonl .tsv .csv .parquet, also .xz and .gz) and hub data sets."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from koembed.errors import InputError
from koembed.hub import hub_has

FORMATS = (".txt", ".jsonl", ".tsv", ".csv", ".parquet")
OPENERS: dict[str, Callable[..., IO[str]]] = {".xz": lzma.open, ".gz": gzip.open}
Row = dict[str, Any]


class PlainTabs(csv.excel_tab):
    """Tab-separated values in which a quotation mark is text."""

    quoting = csv.QUOTE_NONE


def rows(source: str, columns: tuple[str, ...], limit: int | None = None) -> Iterator[Row]:
    """The rows of a local file, or of the train split of a hub data set, streamed.

    Args:
        source: a path that ends in one of the formats, or a hub id such as ``HAERAE-HUB/KOREAN-WEBTEXT``.
        columns: columns that every row must have.
        limit: rows read at most.

    Raises:
        InputError: the source is missing, of no known format, not UTF-8, empty, or lacks a column.
    """
    found = _hub_rows(source) if is_hub_id(source) else _file_rows(Path(source))
    count = 0
    for count, row in enumerate(islice(found, limit), 1):
        if missing := [column for column in columns if row.get(column) is None]:
            have = ", ".join(str(column) for column in row) or "none"
            raise InputError(f"{source}, row {count}: no column {missing[0]}; it has: {have}")
        yield row
    if not count:
        raise InputError(f"{source}: no rows; name a file that has some")


def columns_of(source: str) -> set[str]:
    """The columns of the source's first row."""
    return set(next(rows(source, ()), {}))


def is_hub_id(source: str) -> bool:
    """Whether a source is a data set on the hub: ``OWNER/NAME`` that is no file here and ends in no known format."""
    return source.count("/") == 1 and not Path(source).exists() and not _format(Path(source))


def is_plain(source: str) -> bool:
    """Whether a source is plain text, whose lines are its column ``text``."""
    return _format(Path(source)) == ".txt"


def _format(path: Path) -> str | None:
    suffixes = [suffix for suffix in path.suffixes if suffix not in OPENERS]
    return suffixes[-1] if suffixes and suffixes[-1] in FORMATS else None


def _file_rows(path: Path) -> Iterator[Row]:
    kind = _format(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path in the config")
    if kind is None:
        raise InputError(f"{path}: unknown format; use {' '.join(FORMATS)}, also with .xz or .gz")
    if kind == ".parquet":
        yield from _parquet_rows(path)
        return
    opener = OPENERS.get(path.suffix, open)
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as lines:
            yield from _text_rows(lines, kind, path)
    except (UnicodeDecodeError, OSError, EOFError, lzma.LZMAError, zlib.error, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text or table ({error}); convert or replace it") from error


def _text_rows(lines: IO[str], kind: str, path: Path) -> Iterator[Row]:
    if kind == ".txt":
        yield from ({"text": line.strip()} for line in lines if line.strip())
    elif kind == ".jsonl":
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _json_row(line, f"{path}, line {number}")
    else:
        dialect = csv.excel if kind == ".csv" else PlainTabs
        yield from csv.DictReader(lines, dialect=dialect)


def _json_row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg}); write one object a line") from error
    if not isinstance(row, dict):
        raise InputError(f"{where}: not an object; write one {{...}} a line")
    return row


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a parquet file ({error}); replace it") from error


def _hub_rows(name: str) -> Iterator[Row]:
    import datasets

    if not hub_has(name, "dataset"):
        reason = "no such file, and the hub does not answer or has none of that name"
        raise InputError(f"{name}: {reason}; check the name and the network, or name a local file")
    try:
        yield from datasets.load_dataset(name, split="train", streaming=True)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"hub data set {name}: {reason}; check the id and the network, or name a local file"
        ) from error
