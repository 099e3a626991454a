"""What users get wrong, each as one line on stderr and exit 2; nothing half-written stays behind."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import ByT5Tokenizer

from conftest import KOREAN
from koembed.cli import main
from koembed.corpus import files
from koembed.errors import InputError


@pytest.fixture
def copy(bert_directory: Path, tmp_path: Path) -> Path:
    """A whole model, to be damaged."""
    return shutil.copytree(bert_directory, tmp_path / "model")


@pytest.fixture
def arguments(copy: Path, tmp_path: Path) -> list[str]:
    """Stage 0 of a small run on that model."""
    (tmp_path / "texts.txt").write_text("\n".join(KOREAN * 2), encoding="utf-8")
    small = ["vocab.size=30", "vocab.words=0", "vocab.initializer=mean", "data.pairs=[]"]
    small += [f"data.{name}=[]" for name in ("bitext", "bitext_select", "bitext_test")]
    return [
        "expand",
        f"root={tmp_path / 'run'}",
        f"model.base={copy}",
        f"data.texts=[{tmp_path / 'texts.txt'}]",
        *small,
    ]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command ends with."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    printed = capsys.readouterr().err
    assert stopped.value.code == 2, printed
    assert len(printed.strip().splitlines()) == 1, printed
    assert printed.startswith("koembed: ")
    return printed


def assert_nothing_written(folder: Path) -> None:
    """The log of stage 0 may be there, and nothing else."""
    assert {file.name for file in folder.rglob("*") if file.is_file()} <= {"stage0.log"}


def test_a_hub_set_with_a_loading_script(monkeypatch):
    def load_dataset(*_: object, **__: object) -> None:
        raise RuntimeError("Dataset scripts are no longer supported, but found set.py")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    monkeypatch.setattr(files, "hub_has", lambda *_: True)
    with pytest.raises(InputError, match="hub data set someone/set: Dataset scripts are no longer supported"):
        list(files.rows("someone/set", ("text",)))


@pytest.mark.parametrize("override", ["model.base=someone/a-model", "data.texts=[someone/some-texts]"])
def test_a_hub_that_does_not_answer(override: str, arguments: list[str], capsys, monkeypatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "and the hub does not answer" in refused([*arguments, override], capsys)
    assert_nothing_written(tmp_path / "run")


class HubWithoutModels(BaseHTTPRequestHandler):
    """Says of every model what the hub says of those it does not have."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: what is printed is looked at."""


@pytest.mark.parametrize("name", ["someone/a-teacher", "runs/another/checkpoints/stage3/final"])
def test_a_teacher_that_is_nowhere_is_missed_before_anything_is_trained(
    name: str, arguments: list[str], capsys, monkeypatch, tmp_path: Path
):
    with ThreadingHTTPServer(("127.0.0.1", 0), HubWithoutModels) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        learns = {"objectives": "{distillation: 1}", "teachers": f"[{name}]"}
        overrides = [f"vocab.distill.{setting}={value}" for setting, value in learns.items()]
        reason = "no such directory, and the hub does not answer or has none of that name"
        assert f"model {name}: {reason}" in refused([*arguments, "vocab.initializer=distill", *overrides], capsys)
        server.shutdown()
    assert_nothing_written(tmp_path / "run")


def cut_tokenizer(model: Path) -> None:
    text = (model / "tokenizer.json").read_text(encoding="utf-8")
    (model / "tokenizer.json").write_text(text[: len(text) // 2], encoding="utf-8")


def tokenizer_of_another_kind(model: Path) -> None:
    (model / "tokenizer.json").write_text(json.dumps({"words": ["the", "open"]}))


def slow_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    ByT5Tokenizer().save_pretrained(model)


def no_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def cut_weights(model: Path) -> None:
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[: len(weights) // 2])


def no_config(model: Path) -> None:
    (model / "config.json").unlink()


def static_vectors(model: Path) -> None:
    shutil.rmtree(model)
    tokenizer = Tokenizer(WordLevel({"창문": 0, "[UNK]": 1}, unk_token="[UNK]"))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu").save(str(model))


def no_directory(model: Path) -> None:
    shutil.rmtree(model)


def an_empty_directory(model: Path) -> None:
    shutil.rmtree(model)
    model.mkdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_tokenizer, "its tokenizer.json is damaged: copy it again"),
        (tokenizer_of_another_kind, "its tokenizer.json is damaged: copy it again"),
        (slow_tokenizer, "ByT5Tokenizer has no tokenizer.json (slow only)"),
        (no_weights, "no file named model.safetensors"),
        (cut_weights, "the file of its weights is damaged: copy it again"),
        (no_config, "name a sentence-transformers model"),
        (static_vectors, "begins with StaticEmbedding, not with a Transformer; name another model"),
        (no_directory, "no such directory, and the hub does not answer or has none of that name"),
        (an_empty_directory, "name a sentence-transformers model"),
    ],
)
def test_a_damaged_model(
    damage: Callable[[Path], None],
    message: str,
    arguments: list[str],
    copy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(copy)
    assert message in refused(arguments, capsys)
    assert_nothing_written(tmp_path / "run")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("vocab.size=0", "vocab.size"),
        ("vocab.trim=[none.txt]", "none.txt: no such file"),
        ("vocab.trim=[english]", "english: no such file"),
        ("vocab.word_list=none.txt", "none.txt: no such file"),
    ],
)
def test_a_wrong_setting(override, message, arguments, tmp_path, capsys):
    words = ["vocab.words=5"] if "word_list" in override else []
    assert message in refused([*arguments, *words, override], capsys)
    assert_nothing_written(tmp_path / "run")


def test_a_text_that_is_not_utf_8(arguments, tmp_path, capsys):
    (tmp_path / "texts.txt").write_bytes("\n".join(KOREAN).encode("cp949"))
    assert "texts.txt: cannot be read as UTF-8 text" in refused(arguments, capsys)
    assert_nothing_written(tmp_path / "run")


def test_a_text_without_korean(arguments, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("open the window\n", encoding="utf-8")
    assert "no Korean text left" in refused(arguments, capsys)
    assert_nothing_written(tmp_path / "run")


@pytest.mark.parametrize("place", ["run", "run/logs", "run/outputs"])
def test_a_file_in_the_way(place, arguments, tmp_path, capsys):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("not a directory")
    line = refused(arguments, capsys)
    assert "cannot write" in line
    assert str(tmp_path / "run") in line
    assert (tmp_path / place).read_text() == "not a directory"
    assert not list(tmp_path.rglob("*.partial"))


def test_a_full_disk(arguments, tmp_path, capsys):
    """No file may grow past 20,000 bytes: the weights do not fit."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        line = refused(arguments, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert "cannot write" in line
    assert "File too large" in line
    assert_nothing_written(tmp_path / "run")


def test_a_console_that_is_not_utf_8(arguments, tmp_path):
    """Such as those of Windows in English, or a container's without a locale."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "koembed.cli", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    again = [*command, "vocab.size=20"]
    done = subprocess.run(again, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "was made with vocab.size=30, now it is 20; make it again with --fresh" in done.stderr
    done = subprocess.run(
        [*command, "data.texts=[없다.txt]", f"root={tmp_path}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "koembed: ??.txt: no such file; check the path in the config" in done.stderr


def test_an_export_may_leave_the_stage_out(tmp_path, capsys):
    assert "no finished stage 3 to export" in refused(["export", f"root={tmp_path}"], capsys)
    assert "use stage0, stage1" in refused(["export", "stage9", f"root={tmp_path}"], capsys)
