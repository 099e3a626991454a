import errno
import os

import pytest

from koembed.errors import InputError
from koembed.storage import read_json, whole_directory, write_json


def test_a_directory_appears_whole(tmp_path):
    with whole_directory(tmp_path / "model") as partial:
        (partial / "a").write_text("1")
        assert not (tmp_path / "model").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ValueError), whole_directory(tmp_path / "model") as partial:
        (partial / "a").write_text("1")
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_in_one_line(tmp_path):
    with pytest.raises(InputError, match="No space left on device; free space"), whole_directory(tmp_path / "model"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_said(tmp_path):
    (tmp_path / "root").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_json(tmp_path / "root" / "results.json", {})


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "stage.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path / "stage.json")
