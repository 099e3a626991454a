"""Catalogues: readers on real files in small archives, the cache, the splits. No network."""

import gzip
import hashlib
import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import msgpack
import polib
import pytest
import yaml

from koembed.corpus import packages
from koembed.corpus.clean import key
from koembed.corpus.packages import Catalogue, Package, bitext, expand, fetch, korean, pairs, texts, unpack, word_list
from koembed.errors import InputError

PO = polib.POFile()
PO.append(polib.POEntry(msgid="Delete the selected files", msgstr="선택한 파일을 삭제합니다"))
PO.append(polib.POEntry(msgid="%d file", msgid_plural="%d files", msgstr_plural={0: "파일 %d개"}))
PO.append(polib.POEntry(msgid="Guessed", msgstr="추측한 번역", flags=["fuzzy"]))
PO.append(polib.POEntry(msgid="Gone", msgstr="없어진 번역", obsolete=True))
PO.append(polib.POEntry(msgid="Untranslated", msgstr=""))
GETTEXT = [("Delete the selected files", "선택한 파일을 삭제합니다"), ("3 files", "파일 3개")]


def put(cache: Path, members: dict[str, bytes | str], name: str = "thing", version: str = "1.0") -> Package:
    """A package whose wheel, of these members, is in the cache."""
    wheel = cache / "wheels" / f"{name}-{version}.whl"
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return Package(name, version, hashlib.sha256(wheel.read_bytes()).hexdigest(), "MIT")


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("pip was called")

    monkeypatch.setattr(subprocess, "run", refuse)


def fake_pip(monkeypatch: pytest.MonkeyPatch, wheel: bytes | None, stderr: str = "") -> list[list[str]]:
    """pip that leaves `wheel` in the directory asked for, or fails; returns the commands it will have been given."""
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if wheel is not None:
            Path(command[command.index("--dest") + 1], "thing-1.0-py3-none-any.whl").write_bytes(wheel)
        return subprocess.CompletedProcess(command, int(wheel is None), "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_reads_po(tmp_path: Path, no_pip: None) -> None:
    package = put(tmp_path, {"thing/locale/ko/LC_MESSAGES/django.po": str(PO), "thing/locale/ja/x.po": "broken"})
    assert bitext(Catalogue(package, "*/locale/ko/*.po", packages.read_gettext), tmp_path) == GETTEXT


def test_reads_mo(tmp_path: Path, no_pip: None) -> None:
    package = put(tmp_path, {"ko.mo": PO.to_binary()})
    assert sorted(bitext(Catalogue(package, "*.mo", packages.read_gettext), tmp_path)) == sorted(GETTEXT)


@pytest.mark.parametrize(("ko", "en"), [("a/ko.json", "a/en.json"), ("kodi/ko/x.json", "kodi/en/x.json")])
def test_reads_json_trees(tmp_path: Path, no_pip: None, ko: str, en: str) -> None:
    english = {"title": "Settings", "step": {"user": {"host": "Host name"}}, "only": "English", "number": 3}
    translated = {"title": "설정하기", "step": {"user": {"host": "호스트 이름"}}, "extra": "영어에 없는 글"}
    members: dict[str, bytes | str] = {ko: json.dumps(translated), en: json.dumps(english), "b/ko.json": "{}"}
    catalogue = Catalogue(put(tmp_path, members), "*ko*.json", packages.read_json)
    assert bitext(catalogue, tmp_path) == [("Settings", "설정하기"), ("Host name", "호스트 이름")]


def test_reads_emoji_names(tmp_path: Path, no_pip: None) -> None:
    english = {
        "👵": {"en": ":old_woman:"},
        "👵🏽": {"en": ":old_woman_medium_skin_tone:"},
        "🇰🇷": {"en": ":South_Korea:"},
    }
    names = {"👵": ":할머니:", "👵🏽": ":할머니_갈색_피부:", "🇰🇷": ":깃발_대한민국:"}
    package = put(tmp_path, {"d/emoji.json": json.dumps(english), "d/emoji_ko.json": json.dumps(names)})
    catalogue = Catalogue(package, "d/emoji_ko.json", packages.read_emoji)
    assert bitext(catalogue, tmp_path) == [("old woman", "할머니"), ("South Korea", "대한민국")]


def test_reads_dialogue(tmp_path: Path, no_pip: None) -> None:
    conversations = [["안녕하세요?", "네, 안녕하세요!"], ["몇 살이니?", 3], ["안녕하세요"]]
    package = put(tmp_path, {"ko/a.yml": yaml.safe_dump({"conversations": conversations}, allow_unicode=True)})
    catalogue = Catalogue(package, "ko/*.yml", packages.read_dialogue)
    assert korean(catalogue, tmp_path) == ["안녕하세요?", "네, 안녕하세요!", "몇 살이니?"]
    assert bitext(catalogue, tmp_path) == []


def test_reads_commands_the_same_each_time(tmp_path: Path, no_pip: None) -> None:
    data = {
        "intents": {
            "On": {"data": [{"sentences": ["{area}[에|의] [<all>] <light> 켜[줘|줄래]", "밝기 {brightness}%로"]}]}
        },
        "expansion_rules": {"all": "모든", "light": "(조명|전등|불)"},
        "lists": {"area": {"wildcard": True}, "brightness": {"range": {"from": 10, "to": 20}}},
    }
    catalogue = Catalogue(put(tmp_path, {"ko.json": json.dumps(data)}), "ko.json", packages.read_commands)
    found = korean(catalogue, tmp_path)
    assert found == korean(catalogue, tmp_path)
    assert 3 < len(found) <= 2 * packages.COMMANDS_A_TEMPLATE
    assert all(text.split()[0].startswith((*packages.SPOKEN["area"], "아이", "밝기")) for text in found)
    assert not any(set(text) & set("[]{}<>()|") for text in found)


def test_expand_reaches_all_of_a_template() -> None:
    said = {expand("[이|저] (불|등) 켜", {}, {}, random.Random(seed)).strip() for seed in range(200)}
    assert said == {"불 켜", "등 켜", "이 불 켜", "이 등 켜", "저 불 켜", "저 등 켜"}


def test_word_list(tmp_path: Path, no_pip: None, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(msgpack.packb([{"format": "cB", "version": 1}, [], ["이", "는"], [], ["을"]]))
    monkeypatch.setattr(packages, "WORDFREQ", put(tmp_path, {"wordfreq/data/small_ko.msgpack.gz": packed}))
    assert word_list(tmp_path) == [("이", 10**-0.01), ("는", 10**-0.01), ("을", 10**-0.03)]


def test_fetch_downloads_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"a wheel"
    package = Package("thing", "1.0", hashlib.sha256(content).hexdigest(), "MIT")
    commands = fake_pip(monkeypatch, content)
    first = fetch(package, tmp_path)
    assert first.read_bytes() == content
    assert fetch(package, tmp_path) == first
    assert len(commands) == 1
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "thing==1.0"} <= set(commands[0])
    assert list(tmp_path.rglob("*")) == [tmp_path / "wheels", first]  # nothing half-written beside it


def test_fetch_replaces_a_damaged_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package("thing", "1.0", hashlib.sha256(b"whole").hexdigest(), "MIT")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "thing-1.0.whl").write_bytes(b"who")
    fake_pip(monkeypatch, b"whole")
    assert fetch(package, tmp_path).read_bytes() == b"whole"


def test_fetch_refuses_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, b"something else")
    with pytest.raises(InputError, match="sha256") as caught:
        fetch(Package("thing", "1.0", "0" * 64, "MIT"), tmp_path)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "wheels").iterdir())


def test_fetch_says_why_pip_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, None, "WARNING: retrying\nERROR: No matching distribution found for thing==1.0\n")
    with pytest.raises(InputError, match=r"No matching distribution found for thing==1\.0; check that") as caught:
        fetch(Package("thing", "1.0", "0" * 64, "MIT"), tmp_path)
    assert "\n" not in str(caught.value)


def test_fetch_into_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a directory")
    with pytest.raises(InputError, match="KOEMBED_CACHE"):
        fetch(Package("thing", "1.0", "0" * 64, "MIT"), tmp_path / "cache")


def test_unpack_once_and_only_below_the_prefix(tmp_path: Path, no_pip: None) -> None:
    package = put(
        tmp_path, {"thing/model/config.json": "{}", "thing/model/1_Pooling/config.json": "[]", "thing/x.py": ""}
    )
    directory = unpack(package, "thing/model/", tmp_path)
    files = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert files == {"config.json", "1_Pooling/config.json"}
    fetch(package, tmp_path).unlink()
    assert unpack(package, "thing/model/", tmp_path) == directory
    assert list(directory.parent.iterdir()) == [directory]


def test_splits_share_nothing(tmp_path: Path, no_pip: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = {
        "test": [
            ("The file was not found", "파일을 찾을 수 없습니다"),
            ("Save", "저장"),
            ("%s was not saved now", "%s 파일을 저장하지 못했습니다"),
        ],
        "select": [
            ("The file was not found!", "그 파일은 없는 것 같습니다"),
            ("Enter your password again", "비밀번호를 다시 입력해 주세요"),
        ],
        "train": [
            ("Save", "저장하기"),
            ("No such file here", "파일을 찾을 수 없습니다."),
            ("Choose a city", "도시를 고르세요"),
        ],
    }
    catalogues = []
    for split, entries in sentences.items():
        po = polib.POFile()
        po.extend(polib.POEntry(msgid=english, msgstr=ko) for english, ko in entries)
        package = put(tmp_path, {"ko.po": str(po)}, name=split)
        catalogues.append(Catalogue(package, "ko.po", packages.read_gettext, split))  # type: ignore[arg-type]
    monkeypatch.setattr(packages, "CATALOGUES", tuple(catalogues))

    assert pairs("test", tmp_path) == (sentences["test"][0],)  # neither a label nor one with a name to be filled in
    assert pairs("select", tmp_path) == tuple(sentences["select"][1:])  # the English of the first is in test
    assert pairs("train", tmp_path) == (sentences["train"][0], sentences["train"][2])
    assert texts(tmp_path) == ["저장하기", "도시를 고르세요"]
    keys = [{key(text) for pair in pairs(split, tmp_path) for text in pair} for split in ("train", "select", "test")]
    assert not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])


def test_every_package_is_pinned_and_has_one_split() -> None:
    all_packages = [catalogue.package for catalogue in packages.CATALOGUES]
    assets = [packages.WORDFREQ]
    assert len({package.name for package in all_packages + assets}) == len(all_packages + assets)
    assert all(len(package.sha256) == 64 and package.licence for package in all_packages + assets)
    assert {catalogue.split for catalogue in packages.CATALOGUES} == {"train", "select", "test"}
    listed = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    assert all(f"{package.name} {package.version}" in listed for package in all_packages + assets)
