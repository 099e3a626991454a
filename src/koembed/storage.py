"""Directories and files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from koembed.errors import InputError

STAGE_FILE = "stage.json"


def cannot_write(path: Path, error: OSError | SafetensorError | RuntimeError) -> InputError:
    """What the user is told of a place that cannot be written to."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return InputError(f"cannot write {path}: {reason}; free space or choose another root")


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A directory to write beside ``path``; it takes the name when the block ends well, and goes when it does not.

    Raises:
        InputError: nothing can be written there (a full disk, no permission, a file in the way).
    """
    partial = path.with_name(path.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write beside ``path``; it takes the name when the block ends well, and goes when it does not.

    Raises:
        InputError: nothing can be written there.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error
    finally:
        if partial.exists():
            partial.unlink()


def write_whole(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        InputError: nothing can be written there.
    """
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON readable by people: indented, Korean as it is."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file that koembed wrote.

    Raises:
        InputError: it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); move it away and run again") from error
