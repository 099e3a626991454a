import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from koembed.config import Config, Section, load_config
from koembed.errors import InputError

ROOT = Path(__file__).parents[1]


def test_the_quickstart_file_names_every_setting_with_its_default_and_its_meaning():
    """Line by line, so that none is forgotten, misplaced or explained in other words than the code has."""
    text = (ROOT / "configs/quickstart.yaml").read_text(encoding="utf-8")
    settings = text.partition("\n\n")[2].splitlines()
    assert settings == list(lines(Config()))
    assert load_config(ROOT / "configs/quickstart.yaml") == Config()


def lines(section: Section, indent: str = "") -> Iterator[str]:
    """A group of settings as YAML, each with its help text."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield f"{indent}{name}:"
            yield from lines(value, indent + "  ")
        elif isinstance(value, dict) and all(isinstance(part, Section) for part in value.values()):
            yield f"{indent}{name}:"
            for key, part in value.items():
                yield f"{indent}  {key}:"
                yield from lines(part, indent + "    ")
        else:
            written = json.dumps(section.model_dump(mode="json")[name], ensure_ascii=False)
            if isinstance(value, list | dict):
                written = re.sub(r'"(\w+)"', r"\1", written)
            elif isinstance(value, str | Path) and re.fullmatch("[\\w/]+", str(value)):
                written = str(value)
            yield f"{indent}{name}: {written}".ljust(46) + f"  # {field.description}"


@pytest.mark.parametrize("file", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda file: file.name)
def test_every_shipped_config_loads(file):
    assert load_config(file).seed >= 0


def test_overrides_change_one_setting_and_keep_the_rest():
    config = load_config(None, ["stage1.learning_rate=3e-5", "stage3.tasks.sts.epochs=5", "data.texts=[a.txt]"])
    assert config.stage1.learning_rate == 3e-5
    assert config.stage1.objectives == Config().stage1.objectives
    assert config.stage3.tasks["sts"].epochs == 5
    assert config.stage3.tasks["sts"].objectives == Config().stage3.tasks["sts"].objectives
    assert set(config.stage3.tasks) == {"sts", "retrieval"}
    assert config.data.texts == ["a.txt"]


def test_a_task_can_be_dropped_and_added():
    config = load_config(None, ["stage3.tasks.retrieval=null", "stage3.tasks.chat={objectives: {infonce: 1}}"])
    assert set(config.stage3.tasks) == {"sts", "chat"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stage1.learning_rat=1", "unknown key stage1.learning_rat; known here: objectives, max_length"),
        ("stage2.sise=1", "unknown key stage2.sise"),
        ("vocab.size=0", r"vocab.size: input should be greater than 0 \(got 0\)"),
        ("stage3.tasks.all={fuses: [sts, chat]}", r"stage3: task all fuses chat; put it after those it fuses$"),
        (
            "stage3.tasks.query={objectives: {infonce: 1}}",
            r"stage3.tasks: a task cannot be called 'query'; use letters",
        ),
        ("stage3={tasks: {v1.0: {objectives: {infonce: 1}}}}", r"stage3.tasks: a task cannot be called 'v1.0'"),
        ("stage3.tasks.training={objectives: {infonce: 1}}", r"stage3.tasks: a task cannot be called 'training'"),
        ("stage1.epochs=many", "stage1.epochs: .*number.*'many'"),
        ("stage1.batch_size=0", "stage1.batch_size: .*greater than 0"),
        ("vocab.initializer=magic", "vocab.initializer: .*'focus' or 'distill'"),
        ("stage1", "write key.path=value"),
        ("seed.x.y=1", "seed"),
        ("seed=-1", "seed: .*greater than or equal to 0"),
        ("stage1.objectives={simsce: 1}", r"stage1.objectives.simsce: input should be 'simcse', .* \(got 'simsce'\)"),
        ("stage1.objectives={}", "stage1.objectives: none is named"),
    ],
)
def test_wrong_settings_are_explained_in_one_line(override, message):
    with pytest.raises(InputError, match=message) as caught:
        load_config(None, [override])
    assert "\n" not in str(caught.value)


def test_a_missing_and_a_broken_file_are_named(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1,")
    with pytest.raises(InputError, match="not YAML"):
        load_config(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(InputError, match="mapping"):
        load_config(tmp_path / "list.yaml")


def test_the_gate_is_not_given_training_pairs():
    for setting in ("pairs_select", "bitext_select", "bitext_test"):
        with pytest.raises(InputError, match=rf"data\.{setting}: kopairs are training pairs"):
            load_config(None, [f"data.{setting}=[kopairs]"])
