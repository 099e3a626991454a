"""KoPairs: what the check finds in rows made for it, what it leaves alone, and what holds of the shipped files."""

import doctest
import io
import json
import unicodedata
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from koembed.corpus import kopairs
from koembed.corpus.kopairs import check as kopairs_check
from koembed.corpus.kopairs.check import (
    TEXTS,
    Report,
    check,
    fill_datasheet,
    parse,
    print_report,
)
from koembed.corpus.kopairs.repetition import Sentence, near_duplicates, shared_names, template_family

TRIPLET = {
    "id": "train-1",
    "anchor": "어젯밤 늦게까지 책을 읽었다.",
    "positive": "간밤에 독서하느라 늦게 잤다.",
    "hard_negative": "어젯밤 늦게까지 책을 찾았다.",
    "anchor_en": "I read a book until late last night.",
    "positive_en": "I went to bed late because I was reading.",
    "hard_negative_en": "I looked for a book until late last night.",
    "phenomenon": "lexical",
    "domain": "daily",
}
PAIR = {
    "id": "test-1",
    "sentence1": "비가 그치자 무지개가 떴다.",
    "sentence2": "소나기 뒤에 일곱 빛깔 다리가 걸렸다.",
    "kind": "similar",
    "score": None,
    "phenomenon": "lexical",
    "domain": "weather",
}
GRADED = {
    "id": "graded-1",
    "sentence1": "비가 그치자 무지개가 떴다.",
    "sentence2": "비가 그치고 무지개가 두 개 떴다.",
    "sentence1_en": "A rainbow came out when the rain stopped.",
    "sentence2_en": "The rain stopped and two rainbows came out.",
    "score": 3.25,
    "grades": [3.5, 3.0],
    "phenomenon": "numbers_dates",
    "domain": "weather",
}
PROBE = {
    "id": "probe-1",
    "phenomenon": "negation",
    "base": "문을 안 닫았다.",
    "should_stay_close": "문이 열린 채다.",
    "should_move_away": "문을 꼭 닫았다.",
}


def jsonl(**rows: list[dict[str, Any]]) -> dict[str, str]:
    """The contents of the five files; those not given are empty."""
    return {split: "".join(json.dumps(row) + "\n" for row in rows.get(split, [])) for split in TEXTS}


def pair(number: int, first: str, second: str, kind: str) -> dict[str, Any]:
    return PAIR | {"id": f"test-{number}", "sentence1": first, "sentence2": second, "kind": kind}


def sentence(text: str, row: int, split: str = "train") -> Sentence:
    return Sentence(split, row, f"{split}-{row}", "anchor", text)


def first_letter(texts: list[str]) -> np.ndarray:
    """A semantic space in which texts are equal when their first letters are."""
    return np.eye(1024, dtype=np.float32)[[ord(text[0]) % 1024 for text in texts]]


def printed(report: Report, as_json: bool = False) -> tuple[list[str], bool]:
    """The lines that the check prints, and whether it passes."""
    out = io.StringIO()
    passed = print_report(report, Console(file=out, width=200), as_json)
    return out.getvalue().splitlines(), passed


# Schema


def test_sound_rows_pass() -> None:
    rows, found = parse(
        jsonl(
            train=[TRIPLET],
            graded=[GRADED],
            select=[PAIR],
            test=[PAIR | {"id": "t", "score": 3, "kind": "graded"}],
            probes=[PROBE],
        )
    )
    assert found == []
    assert {split: len(there) for split, there in rows.items()} == {
        "train": 1,
        "graded": 1,
        "select": 1,
        "test": 1,
        "probes": 1,
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"phenomenon": "irony"}, "phenomenon 'irony'"),
        ({"domain": "space"}, "domain 'space'"),
        ({"kind": "easy"}, "kind 'easy'"),
        ({"score": 3.0}, "score 3.0 on a similar pair"),
        ({"kind": "graded"}, "score None on a graded pair"),
        ({"kind": "graded", "score": 5.5}, "not within 0-5"),
        ({"kind": "graded", "score": float("nan")}, "not within 0-5"),
        ({"sentence1": "무지개가 떴다고 했다."}, None),
        ({"sentence1": "무지개가 떴다고 했다."}, "sentence1 is not NFC"),
        ({"sentence1": " 무지개가 떴다고 했다."}, "begins or ends with a blank"),
        ({"sentence2": "비가 왔다."}, "6 characters, not 8-120"),
        ({"sentence2": "비" * 121}, "121 characters, not 8-120"),
        ({"sentence2": PAIR["sentence1"]}, "two texts of the row are the same"),
    ],
)
def test_wrong_value_is_named(change: dict[str, Any], expected: str | None) -> None:
    if expected and "NFC" in expected:
        change = {"sentence1": unicodedata.normalize("NFD", change["sentence1"])}
    rows, found = parse(jsonl(test=[PAIR | change]))
    assert len(rows["test"]) == 1
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1
        assert found[0].startswith("test.jsonl test-1: ")
        assert expected in found[0]


@pytest.mark.parametrize(
    ("english", "expected"),
    [
        ("I read until 열 시.", "anchor_en is not English"),
        ("", "anchor_en is not English"),
        ("I read a book. ", "anchor_en begins or ends with a blank"),
    ],
)
def test_a_wrong_translation_is_named(english: str, expected: str) -> None:
    _, found = parse(jsonl(train=[TRIPLET | {"anchor_en": english}]))
    assert found == [f"train.jsonl train-1: {expected}"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"score": 3.5}, "score 3.5 is not the mean of the grades [3.5, 3.0]"),
        ({"grades": [3.25]}, "grades [3.25] are not two of 0-5 in halves"),
        ({"grades": [3.25, 3.25]}, "grades [3.25, 3.25] are not two of 0-5 in halves"),
        ({"grades": ["3.5", 3.0]}, "grades ['3.5', 3.0] are not two of 0-5 in halves"),
    ],
)
def test_a_wrong_grade_is_named(change: dict[str, Any], expected: str) -> None:
    _, found = parse(jsonl(graded=[GRADED | change]))
    assert found == [f"graded.jsonl graded-1: {expected}"]


def test_the_report_compares_the_two_grades() -> None:
    other = {
        "id": "graded-2",
        "sentence1": "창문을 활짝 열었다.",
        "sentence2": "현관문을 잠갔다.",
        "score": 1,
        "grades": [1, 1],
    }
    lines, _ = printed(check(jsonl(graded=[GRADED, GRADED | other]), first_letter))
    (title,) = [number for number, line in enumerate(lines) if "The two grades" in line]
    cells = [cell.strip() for cell in lines[title + 4].strip("| ").split("|")]
    assert cells == ["2", "1.000", "0.25", "50.0%", "100.0%", "100.0%"]


def test_grades_are_a_list() -> None:
    rows, found = parse(jsonl(graded=[GRADED | {"grades": 3.25}]))
    assert rows["graded"] == []
    assert found == ["graded.jsonl line 1: graded-1 has the wrong type of grades"]


def test_every_training_sentence_has_its_translation() -> None:
    korean = [text for row in (*kopairs.triplets(), *(pair[:2] for pair in kopairs.graded())) for text in row]
    assert [text for _, text in kopairs.translations()] == korean
    assert kopairs.translations()[3][0] == "The people upstairs thump around every night, so I couldn't sleep well."


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({key: PAIR[key] for key in PAIR if key != "domain"}, "missing keys ['domain']"),
        (PAIR | {"note": ""}, "unknown keys ['note']"),
        (PAIR | {"score": "3"}, "wrong type of score"),
        (PAIR | {"score": True}, "wrong type of score"),
        (PAIR | {"sentence1": None}, "wrong type of sentence1"),
        (PAIR | {"id": 7}, "wrong type of id"),
        ([1], "not an object"),
    ],
)
def test_row_of_the_wrong_shape_is_named_and_left_out(row: Any, expected: str) -> None:
    rows, found = parse(jsonl(test=[row]))
    assert rows["test"] == []
    assert len(found) == 1
    assert expected in found[0]


def test_broken_line_is_named_with_its_number() -> None:
    rows, found = parse(jsonl(train=[TRIPLET]) | {"test": json.dumps(PAIR) + "\n{broken\n"})
    assert [line for line in found if line.startswith("test.jsonl line 2: not JSON")] == found
    assert len(rows["test"]) == 1


def test_probes_may_be_shorter_and_an_id_occurs_once() -> None:
    _, found = parse(jsonl(probes=[PROBE | {"base": "안 갔다."}, PROBE], train=[TRIPLET, TRIPLET | {"id": "probe-1"}]))
    assert found == ["probes.jsonl probe-1: this id occurs twice"] * 2


# Repetition


MEETING = "부서 전체 회의는 내일 오전 열 시에 본관 삼 층 강당에서 바로 시작합니다."  # 27 trigrams
ON_FLOOR_4 = MEETING.replace("삼", "사")  # shares 24 of 30: exactly 0.8
RESPACED = MEETING.replace(" 시", "시").replace("삼 층", "삼층").replace(".", "!")


def test_near_duplicates_are_found() -> None:
    found = near_duplicates(
        [
            sentence(MEETING, 1),
            sentence(RESPACED, 2, "test"),
            sentence(ON_FLOOR_4, 3, "select"),
        ]
    )
    assert [line.split(":")[0] for line in found] == [
        "train-1 anchor ~ test-2 anchor 1.00",
        "train-1 anchor ~ select-3 anchor 0.80",
        "test-2 anchor ~ select-3 anchor 0.80",
    ]


def test_what_differs_and_what_shares_a_row_is_left_alone() -> None:
    assert near_duplicates([]) == []
    assert not near_duplicates(
        [
            sentence("회의는 내일 오전 열 시에 시작합니다.", 1),
            sentence("회의는 내일 오전 열 시에 시작합니다!", 1),  # the same row
            sentence("회의는 모레 오후 두 시에 시작합니다.", 2),
            sentence(MEETING.replace("바로 ", ""), 7),  # one letter in 27 is 22 of 28
            sentence(ON_FLOOR_4.replace("바로 ", ""), 8),
            sentence("2024년 매출은 300억 원이다.", 3),
            sentence("2025년 매출은 470억 원이다.", 4),
            sentence("아!", 5),
            sentence("어!", 6),
        ]
    )


def test_probe_and_other_split_must_be_equal() -> None:
    train = sentence(MEETING, 1)
    near = sentence(ON_FLOOR_4, 1, "probes")
    equal = sentence(RESPACED, 2, "probes")
    assert [line.split(":")[0] for line in near_duplicates([train, near, equal])] == [
        "train-1 anchor ~ probes-2 anchor 1.00",
        "probes-1 anchor ~ probes-2 anchor 0.80",
    ]


def test_duplicates_are_found_across_blocks() -> None:
    texts = [f"{number}번 창구에서 {number * 7919} 번호표를 {number * 104729} 장 뽑았다." for number in range(40)]
    rows = [sentence(text, row) for row, text in enumerate([*texts, texts[0]])]
    assert [line.split(":")[0] for line in near_duplicates(rows, block=8)] == ["train-0 anchor ~ train-40 anchor 1.00"]


PLACES = ["서점", "약국", "시장", "공원", "학교", "은행", "식당", "극장", "병원", "도서관"]
THINGS = ["우산", "지갑", "장갑", "모자", "안경", "열쇠", "가방", "수첩", "시계", "목도리"]
VARIED = [
    "밤새 내린 눈 때문에 첫차가 늦었다.",
    "그 식당은 줄이 너무 길어서 포기했어요.",
    "환율이 오르자 수입 과일값도 따라 올랐다.",
    "선생님께서 숙제를 다음 주까지 미뤄 주셨어.",
    "감기약을 먹었더니 하루 종일 졸리네요.",
    "새 휴대폰은 배터리가 오래가서 마음에 듭니다.",
    "우리 팀이 연장전 끝에 간신히 이겼다.",
    "박물관 입장료는 어린이에게 받지 않습니다.",
    "서버를 옮기는 동안 접속이 끊길 수 있어요.",
    "할머니는 시골에서 보낸 김치를 나눠 주셨다.",
]


def test_same_frame_with_swapped_words_is_a_family() -> None:
    frames = [
        f"어제 {place}에서 {thing}{'을' if (ord(thing[-1]) - 0xAC00) % 28 else '를'} 잃어버렸다."
        for place, thing in zip(PLACES, THINGS, strict=True)
    ]
    rows = [(f"r{number}", text) for number, text in enumerate([*frames, *VARIED])]
    family = template_family(rows)
    assert family.frame == "어제 _에서 _를 잃어버렸다"
    assert family.ids == [f"r{number}" for number in range(10)]
    assert family.share == 0.5


def test_sentences_of_their_own_are_no_family() -> None:
    assert len(template_family([(text, text) for text in VARIED]).ids) == 1
    assert template_family([("a", "너무졸려요"), ("b", "배고파요")]).ids == []  # one word has no frame
    assert template_family([]).share == 0.0


# Names


def test_names_of_another_split_are_found() -> None:
    sure, doubtful = shared_names(
        [
            sentence("민수가 도현이에게 전화했다.", 1),
            sentence("지난달 부산에서 하윤 씨를 만났다.", 2, "test"),
            sentence("동건이는 울산까지 갔다.", 3, "probes"),
        ]
    )
    assert [line.split(": ")[1] for line in sure] == [
        "도현이에게 (도현 is of test)",
        "부산에서 (부산 is of train)",
        "울산까지 (울산 is of test)",
    ]
    assert doubtful == []


def test_other_words_are_warnings_only() -> None:
    texts = ["과수원의 사과", "현미경으로 보라고 했다", "나래를 펴다", "전주 대비 오른 값"]
    sure, doubtful = shared_names([sentence(text, row, "other") for row, text in enumerate(texts)])
    assert sure == []
    assert [line.split(": ")[1].split()[0] for line in doubtful] == [
        "과수원의",
        "현미경으로",
        "보라고",
        "나래를",
        "전주",
    ]


# The whole


@pytest.fixture(scope="module")
def small() -> Report:
    """Two similar, two hard and one plain pair: the semantic space is right about all, shared characters about none."""
    rows = [
        pair(1, "강아지가 밤새 짖어 댔다.", "강쥐 한 마리 탓에 시끄러웠어요.", "similar"),
        pair(2, "버스를 놓쳐 지각했다.", "버거운 교통 사정으로 늦게 도착함.", "similar"),
        pair(3, "문을 잠그고 나갔다.", "창문을 잠그고 나갔다.", "hard"),
        pair(4, "물을 마셨다고 했다.", "국물을 마셨다고 했다.", "hard"),
        pair(5, "오늘은 하늘이 맑다.", "계약서에 도장을 찍어요.", "plain"),
    ]
    return check(jsonl(train=[TRIPLET], test=rows, probes=[PROBE]), first_letter)


def test_figures(small: Report) -> None:
    assert small.figures() == {
        "train": 1,
        "select": 0,
        "test_similar": 2,
        "test_different": 3,
        "test_hard": 2,
        "graded": 0,
        "probe_sets": 1,
        "phenomena": 2,
        "near_duplicates": 0,
        "max_template_share": 1.0,
        "tfidf_auc_hard": 0.0,
        "use_auc_hard": 1.0,
        "use_auc_plain": 1.0,
    }


def test_json_line_is_last_and_alone(small: Report) -> None:
    lines, passed = printed(small, as_json=True)
    assert not passed
    assert json.loads(lines[-1]) == small.figures()
    assert "gate failed: train rows is 1, must be >= 1500" in lines
    assert sum(line.startswith("{") for line in lines) == 1


def test_tables_and_failed_gates_are_printed(small: Report) -> None:
    lines, passed = printed(small)
    assert not passed
    assert any("tense_modality" in line for line in lines)
    assert lines[-1].startswith("gate failed: ")
    assert "gate failed: test similar is 2, must be >= 150" in lines
    assert any(line.startswith("gate failed: train: values of domain (news, ") for line in lines)
    assert any(line.startswith("warning: test: little overlap marks similar pairs") for line in lines)


def test_passes_when_every_gate_holds(small: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Report, "gates", lambda self: [("train rows", 1500, ">= 1500", True)])
    assert printed(small)[1]


def test_datasheet_keeps_all_but_the_marked_section(small: Report, tmp_path: Any) -> None:
    sheet = tmp_path / "datasheet.md"
    sheet.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n", encoding="utf-8")
    fill_datasheet(small, sheet)
    first = sheet.read_text(encoding="utf-8")
    assert first.startswith("before\n<!-- figures -->\n")
    assert first.endswith("<!-- end of figures -->\nafter\n")
    assert "old" not in first
    assert "| tense_modality |" in first
    fill_datasheet(small, sheet)
    assert sheet.read_text(encoding="utf-8") == first


def test_docstrings() -> None:
    assert doctest.testmod(kopairs_check).failed == 0  # pytest's own collection leaves the kopairs folder out


# What ships


@pytest.fixture(scope="module")
def shipped() -> Report:
    return check(encode=first_letter)


def test_shipped_rows_keep_the_schema(shipped: Report) -> None:
    assert shipped.violations == []
    assert all(shipped.rows.values())


def test_shipped_sentences_do_not_repeat(shipped: Report) -> None:
    assert shipped.duplicates == []
