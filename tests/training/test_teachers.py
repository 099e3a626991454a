"""Teachers are asked once, also by a training that was killed."""

import numpy as np
import pytest
from numpy.typing import NDArray

from koembed.errors import InputError
from koembed.training.teachers import taught_once

TEXTS = ["비가 옵니다.", "눈이 옵니다."]


class Teacher:
    """Gives other vectors each time, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        self.asked += 1
        return np.full((len(texts), 3), self.asked, np.float32)


def test_what_was_taught_is_kept_for_these_texts_and_this_teacher_in_this_directory(tmp_path):
    teacher = Teacher()
    first, again = (taught_once("e5", teacher, TEXTS, tmp_path) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert teacher.asked == 1
    for name, texts, directory in (
        ("usem3", TEXTS, tmp_path),
        ("e5", TEXTS[::-1], tmp_path),
        ("e5", TEXTS, tmp_path / "b"),
    ):
        assert not np.array_equal(taught_once(name, teacher, texts, directory), first)
    assert teacher.asked == 4


def test_a_teacher_that_fails_leaves_nothing(tmp_path):
    def failing(texts: list[str]) -> NDArray[np.float32]:
        raise MemoryError

    with pytest.raises(MemoryError):
        taught_once("e5", failing, TEXTS, tmp_path)
    assert not list(tmp_path.iterdir())
    np.testing.assert_array_equal(taught_once("e5", Teacher(), TEXTS, tmp_path), np.ones((2, 3)))


def test_where_nothing_can_be_written_the_user_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*taught-.*free space or choose another root"):
        taught_once("e5", Teacher(), TEXTS, tmp_path / "file")
