"""Natural sentences out of interface strings, web text and dialogue; None where none is left.

Everything that teaches the vocabulary, SimCSE or the en-ko alignment passes through here, so that no token is ever
learnt from `%(count)d`, `&nbsp;` or `<a href=...>`.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Set
from typing import Literal

MIN_HANGUL = 2  # one syllable ("예", "월") is a label, not a text
MAX_PLACEHOLDERS = 2  # for 200 characters; with more taken out, what remains no longer says what the sentence said

_HANGUL = re.compile(r"[가-힣]")
_NOT_LATIN = re.compile(r"[^\W\d_A-Za-zÀ-ɏ]")
_LETTER = re.compile(r"[^\W\d_]")

# Controls (except white space), zero width, direction marks, fillers, variation selectors, private and not characters.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ud800-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\U000e0000-\U0010ffff]"
)
_TAG = re.compile(r"<!--.*?-->|</?[A-Za-z][^<>]*>", re.DOTALL)
_ENTITY = re.compile(r"&#?\w{2,31};")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")  # markdown: keep the words
_URL = re.compile(r"(?:https?|ftp)://[!-~]*|\bwww\.[!-~]+|[\w.+-]{1,64}@[\w-]+\.[\w.]+", re.IGNORECASE | re.ASCII)
_ACCELERATOR = re.compile(r"\([&_][A-Za-z0-9]\)|(?<![\w&])[&_](?=[^\W_])")
_MARKS = re.compile(r"[*_~]{2,}|`+|\*(?=\s*$)|^\s*[*#]+\s|={3,}|-{3,}")

# Numbers become "3", so that the counter after them keeps a meaning ("%d개" → "3개"); all others go.
_MEASURE = "num|number|total|size|length|min|max|limit|days|hours|minutes|seconds|percent"
_COUNT_NAME = rf"(?:\w*count|(?:\w+_)?(?:{_MEASURE})(?:_\w+)?|n)"
_NUMBER = re.compile(
    rf"(?<!\d)%(?:\(\w+\))?[#0+-]*\d*(?:\.\d+)?[diufF](?![A-Za-z])"
    rf"|%\({_COUNT_NAME}\)s"
    rf"|\{{\{{\s*{_COUNT_NAME}\s*\}}\}}|\{{{_COUNT_NAME}\}}|\$\{{{_COUNT_NAME}\}}",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"%\(\w+\)[#0+-]*\d*(?:\.\d+)?[A-Za-z]"  # %(name)s
    r"|(?<!\d)%(?:\d+\$)?[#0+-]*\d*(?:\.\d+)?[srcxXeEgGdiufF](?![A-Za-z])"  # %s, %1$s
    r"|(?<!\d)%\d{1,2}(?!\d)"  # %1
    r"|\{%[^{}%]*%\}|\{\{[^{}]*\}\}|\$?\{[^{}]*\}"  # {% if %}, {{x}}, ${x}, {x}, {}
    r"|\[%key:[^\]]*%\]|(?<![\d%])%[a-z_]\w+%?"
    r"|\$[A-Za-z_]\w*"  # $x, never $100
)
_COUNTERS = "개|명|번|일|시간|분|초|건|회|줄|행|자|장|페이지|항목|단계|주|달|년|월|배|점|가지|글자|바이트|픽셀|퍼센트"
_AFTER_COUNTER = "의|이|가|을|를|은|는|에|로|만|씩|간|전|후|까지|마다|동안|이상|이하|보다|부터"
_COUNTED = re.compile(rf"(?:{_PLACEHOLDER.pattern})(?= ?(?:{_COUNTERS})(?:{_AFTER_COUNTER})?(?![가-힣]))", re.ASCII)

# A particle cannot stand without the noun that was in the placeholder, nor can quotes or brackets around nothing; a
# predicate that needs the noun ("%s입니다") breaks the sentence.
_HOLE = "\x00"
_EITHER_PARTICLE = r"(?:을[/(]를|를[/(]을|이[/(]가|가[/(]이|은[/(]는|는[/(]은|와[/(]과|과[/(]와)\)?"
_BARE_PARTICLE = "에서는|에서|에게|에는|으로|까지|부터|보다|처럼|만큼|[을를이가은는와과의에로도]"
_PARTICLE = rf"(?:{_EITHER_PARTICLE}|\(으\)로|(?:{_BARE_PARTICLE})(?![가-힣(/]))"
_EMPTY = re.compile(rf"[\"'“‘«‹「『<(\[]\s*(?:{_HOLE}[\s,./:-]*)+[\"'”’»›」』>)\]]")
_BROKEN = re.compile(
    rf"{_HOLE}[\"'”’」』)]?\s?(?:\(?이\)?)?"
    r"(?:입니[다까]|이[며고면]|이거나|인지?(?![가-힣])|일(?![가-힣])|이?어야|여야|이?므로)"
)
# "인스턴스 %s를" → "인스턴스를": the noun before stands for the name, unless it has a particle or ending of its own.
_APPOSED = re.compile(
    rf"(?P<noun>[가-힣])(?<![은는을를이가의에서로도와과한할된될든하]) ?{_HOLE} ?(?P<particle>{_PARTICLE})"
)
_RELATION = "[에와과] (?:대한|대해|대하여|관한|따라|따른|의해|의한|관련된|연결된)|[을를] 통해|이?라는|이?란(?![가-힣])"
_ORPHAN = re.compile(
    rf"(?:\b(?:the|an?|this|these) |(?<!\S)(?:이|해당|모든) )?{_HOLE}(?: ?(?:{_RELATION}|{_PARTICLE}))?", re.IGNORECASE
)
_DANGLING = re.compile(  # "Failed to connect to %s." → "Failed to connect."
    rf"\s(?:about|as|at|by|called|for|from|in|named|of|on|to|with)\s?{_HOLE}(?=\s*(?:[.?!,;:)]|$))", re.IGNORECASE
)
_PARENTHESES = re.compile(r"\(\s*\)|\[\s*\]|「\s*」|\"\s*\"|“\s*”|‘\s*’|''")

# "파일을(를)" is how software writes what nobody says: the right particle is known from the last syllable.
_EITHER = re.compile(
    rf"(?P<noun>[가-힣])(?P<close>['\"”’」』)]?)\s?(?P<particle>{_EITHER_PARTICLE}|\(으\)로)(?![가-힣])"
)
_AFTER_CONSONANT = {"를": "을", "가": "이", "는": "은", "와": "과"}
_AFTER_VOWEL = {after: before for before, after in _AFTER_CONSONANT.items()}

_SPACE = re.compile(r"\s+")
_MISPLACED = re.compile(r"\s+(?=[,.!?:;)](?:\s|$))|(?<=[(\[“‘「])\s+")
_POINTS = re.compile(r"[,;:]\s*(?=[,;:.!?](?:\s|$))")
_HEAD = " ,.:;)]-–—•·|/\\>*+=~_#?!%"  # what no text begins with
_TAIL = " :;,-–—•·|/\\<([+=~_#*&@"  # what none ends with
_CODE = re.compile(r"\b[A-Za-z]\w*\(\)|\b\w+_\w+\b|\b\w+(?:[./\\:]\w+){2,}|[{}<>=\\|]|::|->", re.ASCII)


def clean(text: str, language: Literal["ko", "en"] = "ko") -> str | None:
    """The natural text in `text`, on one line, in NFC; None when nothing useful is left.

    Markup, entities, placeholders, keyboard accelerators, URLs and control characters go. A particle left without its
    noun goes with it. Idempotent: `clean(clean(x)) == clean(x)`.

    `language="ko"` wants at least two Hangul syllables making up a fifth of the letters; "en" wants none at all.

    >>> clean("<b>%(name)s</b>을(를) 삭제했습니다.&nbsp;  (%d개)")
    '삭제했습니다. (3개)'
    >>> clean("파일(&F)"), clean("%s: {x}"), clean("https://example.com/한글")
    ('파일', None, '한글')
    """
    holed, holes = _holed(text)
    if holes > MAX_PLACEHOLDERS * (1 + len(text) // 200) or _BROKEN.search(holed):
        return None
    while (simpler := _simplify(text)) != text:  # a removal can join two halves into something removable
        text = simpler
    return text if _is_language(text, language) else None


def clean_pair(english: str, korean: str) -> tuple[str, str] | None:
    """Both sides cleaned; None if either is empty, untranslated, or absurdly longer than the other.

    >>> clean_pair("Delete %s?", "%s을(를) 삭제하시겠습니까?")
    ('Delete?', '삭제하시겠습니까?')
    """
    en, ko = clean(english, "en"), clean(korean, "ko")
    if en is None or ko is None:
        return None
    # Korean takes about half of English's characters; the constants let short labels differ more.
    if len(ko) > 1.5 * len(en) + 10 or len(en) > 5 * len(ko) + 15:
        return None
    return en, ko


def is_sentence(text: str) -> bool:
    """Whether the text has three words or more, and so says something rather than labels it.

    >>> is_sentence("파일을 찾을 수 없습니다."), is_sentence("새 폴더")
    (True, False)
    """
    return len(text.split()) >= 3


def is_whole(text: str) -> bool:
    """Whether cleaning leaves the whole text: no name was to be filled in (numbers do no harm).

    >>> is_whole("%d개의 파일"), is_whole("%s 파일")
    (True, False)
    """
    return not _holed(text)[1]


def key(text: str) -> str:
    """What two spellings of the same text share: its letters, without case, width, spacing and numbers.

    >>> key("새 폴더 1!") == key("새폴더 12"), key("2024")
    (True, '2024')
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"[\W\d_]+", "", folded) or folded


def dedupe(texts: Iterable[str], held_out: Set[str] = frozenset()) -> Iterator[str]:
    """The texts in their order, the first of each `key` only, and none whose key is held out."""
    seen = set(held_out)
    for text in texts:
        if (k := key(text)) not in seen:
            seen.add(k)
            yield text


def _holed(text: str) -> tuple[str, int]:
    """The text with a hole for each name to be filled in, and the number of holes."""
    return _PLACEHOLDER.subn(_HOLE, _numbered(_TAG.sub("", text)))


def _simplify(text: str) -> str:
    """One pass of every removal; `clean` repeats it until nothing changes."""
    text = unicodedata.normalize("NFC", text)
    text = _INVISIBLE.sub("", text)
    text = _ENTITY.sub(lambda m: html.unescape(m[0]), text)
    text = _LINK.sub(r"\1", _TAG.sub(" ", text))
    text = _PLACEHOLDER.sub(_HOLE, _numbered(_URL.sub(_HOLE, text))).replace("%%", "%")
    text = _APPOSED.sub(_attached, _DANGLING.sub("", _EMPTY.sub(_HOLE, text)))
    text = _MARKS.sub("", _ACCELERATOR.sub("", _ORPHAN.sub(" ", text)))
    text = _EITHER.sub(_attached, _PARENTHESES.sub("", text))
    text = _MISPLACED.sub("", _POINTS.sub("", _SPACE.sub(" ", text)))
    return unicodedata.normalize("NFC", text.lstrip(_HEAD).rstrip(_TAIL))


def _numbered(text: str) -> str:
    return _COUNTED.sub("3", _NUMBER.sub("3", text))


def _attached(match: re.Match[str]) -> str:
    """The noun's last syllable with that form of the particle that follows it."""
    final = (ord(match["noun"]) - 0xAC00) % 28  # 0: no final consonant, 8: ㄹ
    particle = match["particle"]
    if particle in ("(으)로", "으로", "로"):
        particle = "로" if final in (0, 8) else "으로"
    elif particle[0] in "을를이가은는와과":
        particle = (_AFTER_CONSONANT if final else _AFTER_VOWEL).get(particle[0], particle[0])
    return match["noun"] + (match.groupdict().get("close") or "") + particle


def _is_language(text: str, language: Literal["ko", "en"]) -> bool:
    hangul, letters = len(_HANGUL.findall(text)), len(_LETTER.findall(text))
    visible, alphanumeric = len(text) - text.count(" "), sum(map(str.isalnum, text))
    code = sum(len(found) for found in _CODE.findall(text))
    if 2 * alphanumeric < visible or 4 * letters < visible or 4 * code > visible:
        return False
    if language == "en":
        return letters >= 2 and not _NOT_LATIN.search(text)
    return hangul >= MIN_HANGUL and 5 * hangul >= letters
