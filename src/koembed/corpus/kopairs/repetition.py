"""Repetition in labelled pairs: near-duplicates, template families, names that leak from split to split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

# The particles that a skeleton keeps; the two forms of one particle count as one.
_KEPT = (
    "에서는 에서도 에게서 으로는 에서 에게 한테 부터 까지 으로 이나 보다 처럼 은 는 이 가 을 를 의 에 로 와 과 도 만"
)
_PARTICLE = re.compile(rf"(?<=.)({'|'.join(_KEPT.split())})$")
_ONE_FORM = {"은": "는", "이": "가", "을": "를", "과": "와", "으로": "로", "으로는": "로는", "이나": "나"}

# People and places that one split alone may name; those that are also other words; what may follow a name.
NAMES = {
    "train": "민수 지영 현우 서연 준호 수빈 영희 철민 부산 대전 제주 인천 수원",
    "select": "태윤 다은 재민 채원 규현 광주 전주 강릉 세종",
    "test": "도현 예린 성훈 나래 우진 하윤 대구 울산 춘천 목포 경주",
    "probes": "동건 미경 상우 혜진 은석 보라 포항 창원 여수 청주",
}
_OWNERS = {name: split for split, names in NAMES.items() for name in names.split()}
HOMOGRAPHS = {"나래", "보라", "전주", "경주", "청주", "대전"}  # wing, purple, last week, race, rice wine, match
_AFTER_NAME = re.compile(
    "(이|씨|님|네)?(은|는|이|가|을|를|의|에|에게|에게서|에서|한테|께|께서|와|과|랑|이랑|하고|도|만|아|야|로|으로|까지|부터|"
    "보다|처럼|나|이나|라고|이라고|라는|이라는)?(는|도|만|의|요)?"
)


TEMPLATE_SHARE = 0.02  # of a split, for its largest template family


class Sentence(NamedTuple):
    """One text of a row; ``row`` is the row's place in its split."""

    split: str
    row: int
    id: str
    field: str
    text: str


class Family(NamedTuple):
    """The largest template family of a split: its frame, the ids of its rows, their share of the split's rows."""

    frame: str
    ids: list[str]
    share: float


def bare(text: str) -> str:
    """Letters and digits alone, in lower case."""
    return "".join(letter for letter in text.lower() if letter.isalnum())


def _trigrams(text: str) -> set[str]:
    letters = bare(text)
    return {letters[start : start + 3] for start in range(max(1, len(letters) - 2))}


def near_duplicates(sentences: Sequence[Sentence], threshold: float = 0.8, block: int = 512) -> list[str]:
    """Pairs of sentences of different rows whose sets of character trigrams have a Jaccard similarity >= threshold.

    Blanks and punctuation do not count. A probe and a sentence of another split must be equal to be a pair. All
    intersections come from one sparse product, ``block`` rows at a time.
    """
    if not sentences:
        return []
    grams = CountVectorizer(analyzer=_trigrams, dtype=np.int32).fit_transform([one.text for one in sentences])
    sizes = np.asarray(grams.sum(axis=1)).ravel()
    lines = []
    for start in range(0, len(sentences), block):
        shared = (grams[start : start + block] @ grams.T).sorted_indices().tocoo()
        left, right = shared.row + start, shared.col
        jaccard = shared.data / (sizes[left] + sizes[right] - shared.data)
        close = (left < right) & (jaccard >= threshold)
        for first, second, value in zip(left[close], right[close], jaccard[close], strict=True):
            one, other = sentences[first], sentences[second]
            exact = (one.split == "probes") != (other.split == "probes")
            if one[:2] != other[:2] and not (exact and bare(one.text) != bare(other.text)):
                lines.append(f"{one.id} {one.field} ~ {other.id} {other.field} {value:.2f}: {one.text} ~ {other.text}")
    return lines


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", re.sub(r"\d+", "0", text))


def skeleton(text: str, kept: set[str]) -> list[str]:
    """The words of a text, masked but for those of ``kept``: a particle is left, or else the last syllable.

    >>> skeleton("지하철에서 우산을 또 잃어버렸다.", {"또"})
    ['_에서', '_를', '또', '_다']
    """
    masked = []
    for word in _words(text):
        found = _PARTICLE.search(word)
        tail = _ONE_FORM.get(found[1], found[1]) if found else word[1:][-1:]
        masked.append(word if word in kept else f"_{tail}")
    return masked


def template_family(rows: Sequence[tuple[str, str]], run: int = 4) -> Family:
    """The largest family among (id, text) rows.

    A family is all rows that share a frame: the same ``run`` masked words (see `skeleton`) in succession, anywhere in
    the sentence. A sentence of three words is its own frame; shorter ones (those written without blanks) have none.
    A word that 2 % of the rows have is not masked: the fixed words of a family above the gate are all among those, and
    the words swapped into it seldom are.
    """
    spread = Counter(word for _, text in rows for word in set(_words(text)))
    kept = {word for word, count in spread.items() if count >= max(3, TEMPLATE_SHARE * len(rows))}
    members: dict[str, list[str]] = {"": []}
    for identity, text in rows:
        masked = skeleton(text, kept)
        length = min(run, max(3, len(masked)))
        for frame in {" ".join(masked[at : at + length]) for at in range(len(masked) - length + 1)}:
            members.setdefault(frame, []).append(identity)
    frame, ids = max(members.items(), key=lambda member: (len(member[1]), member[0]))
    return Family(frame, ids, len(ids) / max(1, len(rows)))


def shared_names(sentences: Sequence[Sentence]) -> tuple[list[str], list[str]]:
    """Names of another split: those beyond doubt (alone or with a particle), and those that may be other words."""
    sure: list[str] = []
    doubtful: list[str] = []
    for one in sentences:
        for word in re.findall("[가-힣]+", one.text):
            for name, owner in _OWNERS.items():
                if name in word and owner != ("train" if one.split == "graded" else one.split):
                    clear = name not in HOMOGRAPHS and word.startswith(name) and _AFTER_NAME.fullmatch(word, len(name))
                    (sure if clear else doubtful).append(f"{one.id} {one.field}: {word} ({name} is of {owner})")
    return sure, doubtful
