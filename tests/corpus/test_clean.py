"""Cleaning: real awkward strings out of the catalogues, and what must hold for any string."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koembed.corpus.clean import _PLACEHOLDER, _TAG, clean, clean_pair, dedupe, is_sentence, is_whole, key


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        # placeholders, with the particle or the quotes that would be left alone
        ("%(name)s을(를) 삭제했습니다.", "삭제했습니다."),
        ('"%s"을 삭제하시겠습니까?', "삭제하시겠습니까?"),
        ("{{ area }}에서 {{ domain }}을 찾을 수 없습니다", "찾을 수 없습니다"),
        ("{username} 의 암호가 더 이상 유효하지 않습니다.", "암호가 더 이상 유효하지 않습니다."),
        ("%r에 대한 변환기가 이미 존재합니다", "변환기가 이미 존재합니다"),
        ("%r 이/가 등록되지 않았습니다.", "등록되지 않았습니다."),
        ("이 %(object)s 수정하기", "수정하기"),
        ("리소스 로드 실패: %s", "리소스 로드 실패"),
        ("가입일 ${date} 이후", "가입일 이후"),
        ("이름은 $name 입력", "이름은 입력"),
        # the noun before stands for the name
        ("인스턴스 %s를 찾을 수 없습니다.", "인스턴스를 찾을 수 없습니다."),
        ('볼륨 "%(volume)s"이(가) 삭제됨', "볼륨이 삭제됨"),
        ("주문 %s에 대한 결제 이벤트", "주문에 대한 결제 이벤트"),
        # numbers keep their counter
        ("%d개의 파일을 선택했습니다", "3개의 파일을 선택했습니다"),
        ("{count}건의 예정된 데드라인", "3건의 예정된 데드라인"),
        ("커밋 %1개 앞섬", "커밋 3개 앞섬"),
        ("%d%% 완료", "3% 완료"),
        # what has no meaning without its names
        ("%s입니다.", None),
        ("{a}에서 {b}로 {c} 이동", None),
        ("%s: {x}", None),
        # either-or particles
        ("파일을(를) 열고 서버(으)로 사용자와(과) 이동", "파일을 열고 서버로 사용자와 이동"),
        ("'볼륨'은(는) 비어 있습니다", "'볼륨'은 비어 있습니다"),
        # markup and entities
        ("<b>중요:</b>&nbsp;저장하지 <em>않은</em> 내용&hellip;", "중요: 저장하지 않은 내용…"),
        ("&lt;b&gt;굵게&lt;/b&gt; 표시", "굵게 표시"),
        ("자세한 내용은 [설명서](https://example.com/docs)를 보세요.", "자세한 내용은 설명서를 보세요."),
        ("**주의**: `설정` 파일", "주의: 설정 파일"),
        ("https://example.com/에서 확인하세요", "확인하세요"),
        # accelerators; real ampersands stay
        ("파일(&F)", "파일"),
        ("_파일 열기(_O)", "파일 열기"),
        ("&새로 만들기", "새로 만들기"),
        ("R&amp;D 센터와 AT&T 대리점", "R&D 센터와 AT&T 대리점"),
        # ordinary prose is left as it is
        ("가격은 $100이고, 50%를 할인합니다.", "가격은 $100이고, 50%를 할인합니다."),
        ("<기생충>은 2019년 영화다.", "<기생충>은 2019년 영화다."),
        ("WAN IPv6 주소", "WAN IPv6 주소"),
        # white space, controls, decomposed Hangul
        ("  여러\t줄의\n\n글  ", "여러 줄의 글"),
        ("보이지\u200b 않는\x07 글자", "보이지 않는 글자"),
        (unicodedata.normalize("NFD", "한국어 문장"), "한국어 문장"),
        # nothing useful
        ("", None),
        ("OK", None),
        ("예", None),
        ("Only English text here", None),
        ("★★★ --- !!! 가나", None),
        ("config_flow.async_step(user_input={한글: 값})", None),
    ],
)
def test_clean_korean(raw: str, expected: str | None) -> None:
    assert clean(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Failed to connect to %s.", "Failed to connect."),
        ("The %(model)s was deleted.", "was deleted."),
        ("%d items selected", "3 items selected"),
        ("%(enum)s is required", "is required"),
        ("&File", "File"),
        ("Café &amp; bar", "Café & bar"),
        ("한국어", None),
        ("Привет мир", None),
        ("%s", None),
    ],
)
def test_clean_english(raw: str, expected: str | None) -> None:
    assert clean(raw, "en") == expected


@pytest.mark.parametrize(
    ("english", "korean", "expected"),
    [
        ("Delete %s?", "%s을(를) 삭제하시겠습니까?", ("Delete?", "삭제하시겠습니까?")),
        ("Save", "저장", ("Save", "저장")),
        ("Save", "Save", None),
        ("Save", "", None),
        ("저장", "저장", None),
        ("A", "이것은 원문보다 터무니없이 긴 번역이라 짝으로 쓸 수 없습니다", None),
        ("This sentence is far longer than what stands beside it, by any measure at all.", "저장", None),
    ],
)
def test_clean_pair(english: str, korean: str, expected: tuple[str, str] | None) -> None:
    assert clean_pair(english, korean) == expected


def test_dedupe_keeps_the_first_and_the_order() -> None:
    assert list(dedupe(["새 폴더", "저장", "새폴더!", "알람 1", "알람 2", "ＡＢＣ 값", "abc값"])) == [
        "새 폴더",
        "저장",
        "알람 1",
        "ＡＢＣ 값",
    ]


def test_key_of_texts_without_letters_is_not_empty() -> None:
    assert key("2024") != key("2025") != ""


def test_sentences_and_whole_texts() -> None:
    assert is_sentence("파일을 찾을 수 없습니다.")
    assert not is_sentence("새 폴더")
    assert is_whole("<b>%d개</b>의 파일")
    assert not is_whole("%(name)s 파일")


AWKWARD = [
    "%s",
    "%(x)s",
    "{name}",
    "{{",
    "}}",
    "{",
    "}",
    "<b>",
    "&lt;",
    "&amp;",
    "&",
    "_",
    "$x",
    "%1",
    "%",
    "'",
    '"',
    "(",
]
KOREAN = [
    "파일",
    "을(를)",
    "를",
    "이",
    " ",
    "삭제",
    "합니다",
    ".",
    ",",
    ":",
    "개",
    "3",
    "http://a.b/",
    "(&F)",
    "*",
    "`",
    "\u200b",
]
ugly = st.lists(st.sampled_from(AWKWARD + KOREAN) | st.text(max_size=3), max_size=14).map("".join)


@given(ugly, st.sampled_from(["ko", "en"]))
def test_clean_holds_for_any_text(text: str, language: str) -> None:
    cleaned = clean(text, language)  # type: ignore[arg-type]
    if cleaned is None:
        return
    assert clean(cleaned, language) == cleaned  # type: ignore[arg-type]
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not _PLACEHOLDER.search(cleaned)
    assert not _TAG.search(cleaned)
    assert cleaned == " ".join(cleaned.split())
    assert all(unicodedata.category(character) != "Cc" for character in cleaned)


@given(st.text())
def test_clean_is_idempotent_on_arbitrary_unicode(text: str) -> None:
    cleaned = clean("한국어 " + text)
    assert cleaned is None or clean(cleaned) == cleaned


@given(st.lists(ugly))
def test_dedupe_leaves_one_of_each_key(texts: list[str]) -> None:
    kept = list(dedupe(texts))
    assert len({key(text) for text in kept}) == len(kept)
    assert {key(text) for text in kept} == {key(text) for text in texts}
