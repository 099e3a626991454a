"""The four stages. Each opens the one before and changes it; from stage 1 on the gate decides how much is kept."""

from __future__ import annotations

import hashlib
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from rich.console import Console
from sentence_transformers import SentenceTransformer

from koembed.adapters.model import AdaptedTransformer, AdapterSpec, adapted
from koembed.adapters.structure import sublayers
from koembed.config import Adapters, Config, Task, Training, Weights
from koembed.corpus.data import (
    Corpus,
    load_bitext,
    load_corpus,
    load_keep,
    load_passages,
    load_sts,
    load_words,
    locate_model,
)
from koembed.corpus.spaces import semantic_space
from koembed.models import Encoder, as_read, backbone, find_model, layer_count, open_model, teacher_vectors
from koembed.processes import processes
from koembed.storage import STAGE_FILE, read_json
from koembed.training.engine import train
from koembed.training.gate import Interpolation, Judge, Purpose, Scores, Verdict, choose, snapshot
from koembed.training.mining import mined_once
from koembed.training.objectives import TAUGHT, Context, Objective, build, source_rows
from koembed.training.teachers import taught_once
from koembed.training.trainable import train_only
from koembed.vocab.expand import Expansion, expand

logger = logging.getLogger(__name__)

ITSELF = "itself"  # as a teacher: the model as it is before the training


@dataclass
class Outcome:
    """A finished stage: the model to save, and what to write down about it."""

    model: SentenceTransformer
    notes: dict[str, Any]
    expansion: Expansion | None = None


@dataclass
class Workshop:
    """What the stages share: the config, the corpus, the untouched base and the judge, each loaded when first used.

    Attributes:
        taught: vectors that teachers have given, by their name and the text.
    """

    config: Config
    console: Console
    taught: dict[str, dict[str, NDArray[np.float32]]] = field(default_factory=lambda: defaultdict(dict))

    @cached_property
    def corpus(self) -> Corpus:
        with self.console.status("reading the corpus; the first time, packages are downloaded"):
            return load_corpus(self.config)

    @cached_property
    def base(self) -> SentenceTransformer:
        return self.open_base()

    def open_base(self) -> SentenceTransformer:
        """A fresh copy of the base."""
        settings = self.config.model
        model = open_model(locate_model(settings.base), settings.max_length, settings.prompt, settings.document_prompt)
        sublayers(backbone(model), layer_count(backbone(model).config))  # what has none is refused now, not at stage 2
        return model

    @cached_property
    def judge(self) -> Judge:
        data = self.config.data
        return Judge(
            self.base,
            load_bitext(data.bitext_select, "select"),
            [load_sts(source) for source in data.pairs_select],
            load_passages(data.passages_select),
        )

    def teacher(self, name: str) -> Encoder:
        """A teacher's vectors, [texts] -> float32 [texts, dim], rows of length 1.

        Later stages and the trials of a search ask for some texts again, three in ten of those that mpnet reads in E5's
        recipe; while this process runs, none is encoded twice.
        """
        known = self.taught[name]

        def vectors(texts: list[str]) -> NDArray[np.float32]:
            if new := [text for text in dict.fromkeys(texts) if text not in known]:
                with self.console.status(f"encoding {len(new):,} texts with {name}"):
                    known.update(zip(new, semantic_space(name)(new), strict=True))
            return np.stack([known[text] for text in texts])

        return vectors

    def training(self, number: int, *below: BaseModel) -> Path:
        """Directory of a stage's trainings that start from one model, for what an interrupted one continues from.

        Args:
            below: settings of the adapters of its own stage that they stand on, and of all else that shaped these.
        """
        parent = read_json(self.config.stage(number - 1) / STAGE_FILE)["id"] if number else self.config.made_from(0)
        return self.config.training(number) / digest(parent, *(part.model_dump_json() for part in below))

    def miner(
        self, model: SentenceTransformer, objective: str, count: int, directory: Path
    ) -> Callable[[list[str], list[str]], list[list[str]]]:
        """Mines for an objective, among all pairs of its kind that the corpus has."""
        corpus, retrieves = self.corpus, objective == "passages"
        pairs = corpus.passages if retrieves else [triplet[:2] for triplet in corpus.triplets]

        def columns(anchors: list[str], positives: list[str]) -> list[list[str]]:
            with self.console.status(f"mining {count} hard negatives for each of {len(anchors):,} pairs"):
                return mined_once(model, pairs, count, self.config.seed, directory, anchors, positives, retrieves)

        return columns

    def teach(self, texts: list[str]) -> np.ndarray:
        """The untouched base's vectors, float32 [texts, hidden], rows of length 1."""
        return teacher_vectors(self.base, texts)


def stage0(shop: Workshop) -> Outcome:
    """Expand the vocabulary: Korean tokens into the tokenizer, a row for each into the model."""
    model, settings = shop.open_base(), shop.config.vocab
    words = load_words(settings.word_list, settings.words)
    keep = load_keep(settings.trim, shop.corpus, shop.config.data.text_column)
    expansion = expand(model, shop.corpus.texts, words, settings, shop.config.seed, keep)
    if expansion.curve:
        shop.console.print(expansion.curve.plot(), highlight=False)
    if settings.initializer == "distill":
        with train_only(model, settings.distill, expansion.first_new_row):
            fit(shop, model, settings.distill, "new rows", shop.training(0))
    return Outcome(model, expansion.report(), expansion)


def stage1(shop: Workshop) -> Outcome:
    """SimCSE, with alignment to the base's English: new rows and body learn to work together."""
    config = shop.config
    model = open_model(config.stage(0), config.model.max_length)
    verdict = fit_weights(shop, model, config.stage1, shop.training(1))
    return Outcome(model, {"gate": {"weights": verdict.as_dict()}})


def stage2(shop: Workshop) -> Outcome:
    """Bottleneck adapters on labelled pairs; everything before them is frozen."""
    model = adapted(shop.config.stage(1))
    verdict = fit_adapter(shop, model, "bottleneck", shop.config.stage2, shop.training(2))
    return Outcome(model, {"gate": {"bottleneck": verdict.as_dict()}})


def stage3(shop: Workshop) -> Outcome:
    """A language adapter, then a task adapter for each task on top of it, each trained with the others frozen."""
    settings, model = shop.config.stage3, adapted(shop.config.stage(2))
    verdicts: dict[str, Verdict] = {}
    below: list[BaseModel] = [shop.config.gate]
    for name, adapter in settings.adapters().items():
        directory = shop.training(3, *below)
        verdicts[name] = fit_adapter(shop, model, name, adapter, directory)
        below.append(adapter)
    cast(AdaptedTransformer, model[0]).select()
    return Outcome(model, {"gate": {name: verdict.as_dict() for name, verdict in verdicts.items()}})


STAGES = (stage0, stage1, stage2, stage3)


def trainings(config: Config, number: int) -> dict[str, Training]:
    """What a stage trains, in order, by what the terminal calls it."""
    found: list[dict[str, Training]] = [
        {"new rows": config.vocab.distill} if config.vocab.initializer == "distill" else {},
        {"stage 1": config.stage1},
        {"stage 2": config.stage2},
        {f"stage 3 {name}": adapter for name, adapter in config.stage3.adapters().items()},
    ]
    return found[number]


def require_inputs(shop: Workshop, numbers: Iterable[int]) -> None:
    """Make sure that every objective of the stages has data and its teachers, before the first of them takes hours.

    Raises:
        InputError: one has not.
    """
    for number in numbers:
        for name in teachers(shop.config, number) - {"usem3", ITSELF}:
            find_model(locate_model(name))
        for settings in trainings(shop.config, number).values():
            for name in settings.objectives:
                source_rows(name, shop.corpus)


def teachers(config: Config, number: int) -> set[str]:
    """The models that a stage learns from, by name."""
    space = config.vocab.semantic_space
    found: set[str] = {space} if number == 0 and config.vocab.initializer in ("semantic", "distill") else set()
    for settings in trainings(config, number).values():
        for name in TAUGHT & settings.objectives.keys():
            found.update(taught_by(name, settings) or [space])
    return found


def taught_by(name: str, settings: Training) -> list[str]:
    """The teachers that the settings name for an objective; none stand for the semantic space."""
    own = settings.english_teachers if name == "crosslingual" else []
    return own or settings.teachers


def fit_weights(shop: Workshop, model: SentenceTransformer, settings: Weights, directory: Path) -> Verdict:
    """Train weights of the model itself, and let the gate choose how far they move from where they were."""
    before = snapshot(model)
    first_new_row = read_json(shop.config.stage(0) / STAGE_FILE)["first_new_row"]
    with train_only(model, settings, first_new_row):
        fit(shop, model, settings, "stage 1", directory)
    weights = Interpolation(model, before)

    def score_at(alpha: float) -> Scores:
        weights.set(alpha)
        return shop.judge.score(model)

    verdict = choose(score_at, shop.config.gate.steps, shop.config.gate.english_floor)
    weights.set(verdict.alpha)
    return verdict


def fit_adapter(shop: Workshop, model: SentenceTransformer, name: str, settings: Adapters, directory: Path) -> Verdict:
    """Add an adapter above those there are, train it alone, and let the gate choose its scale."""
    train_adapter(shop, model, name, settings, directory)
    module = cast(AdaptedTransformer, model[0])
    purpose = purpose_of(name, shop.config.stage3.tasks)

    def score_at(alpha: float) -> Scores:
        module.set_scale(name, alpha)
        return shop.judge.score(model, purpose)

    verdict = choose(score_at, shop.config.gate.steps, shop.config.gate.english_floor, purpose)
    module.set_scale(name, verdict.alpha)
    logger.info("adapter %s kept at scale %.2f", name, verdict.alpha)
    return verdict


def purpose_of(name: str, tasks: Iterable[str]) -> Purpose:
    """What an adapter is judged by: a task beside `retrieval`, which finds for all of them, by similarity alone."""
    if name == "retrieval":
        return "retrieval"
    return "similarity" if {name, "retrieval"} <= set(tasks) else "both"


def train_adapter(shop: Workshop, model: SentenceTransformer, name: str, settings: Adapters, directory: Path) -> None:
    """Add an adapter above those there are and train it alone; it is left at full strength."""
    module = cast(AdaptedTransformer, model[0])
    shape = settings.model_dump(include={"size", "activation", "form", "invertible", "fuses"})
    module.add_adapter(AdapterSpec(name, task=isinstance(settings, Task), **shape))
    model.requires_grad_(False)
    module.freeze_except(name)
    label = "stage 2" if name == "bottleneck" else f"stage 3 {name}"
    fit(shop, model, settings, label, directory / name)


def fit(shop: Workshop, model: SentenceTransformer, settings: Training, label: str, directory: Path) -> None:
    """Build the stage's objectives and train on their mixture."""
    together = processes().num_processes  # steps are of as many batches, and are counted when a training continues
    origin = (settings.model_dump_json(), *teacher_ids(settings), shop.config.seed, shop.corpus, together)
    directory = directory / digest(*origin)
    objectives = build_objectives(shop, model, settings, label, directory)
    for name, objective in objectives.items():
        logger.info("%s: %s with %d examples", label, name, len(objective.dataset))
    train(model, objectives, settings, directory, label, shop.config.seed, shop.console)


def teacher_ids(settings: Training) -> list[str]:
    """Ids of the teachers that are stages of a run: made anew under its old name, one is another teacher."""
    files = [Path(name) / STAGE_FILE for name in (*settings.teachers, *settings.english_teachers)]
    return [read_json(file)["id"] for file in files if file.exists()]


def digest(*parts: Any) -> str:
    """A name for what a training starts from, its settings or its data: one of others must not be continued."""
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:12]


def build_objectives(
    shop: Workshop, model: SentenceTransformer, settings: Training, label: str, directory: Path
) -> dict[str, Objective]:
    """Each objective with its share of ``max_examples``; what is mined and taught is kept in the directory.

    The label has its part in the seed: with one seed for all, a stage would be taught the examples of the stage before.
    Teachers read a text as far as the student does: nobody is to know from its beginning what its end says.
    """

    length = min(settings.max_length, model.max_seq_length or settings.max_length)

    def as_student_reads(name: str, teacher: Encoder) -> Encoder:
        return lambda texts: taught_once(name, teacher, as_read(model, texts, length), directory)

    def teachers_of(objective: str) -> list[Encoder]:
        names = taught_by(objective, settings) or [shop.config.vocab.semantic_space]
        encoders = [partial(teacher_vectors, model) if name == ITSELF else shop.teacher(name) for name in names]
        return list(map(as_student_reads, names, encoders))

    counts = example_counts(settings)
    rng = random.Random(f"{shop.config.seed} {label}")
    return {
        name: build(
            name,
            Context(
                model=model,
                teach=as_student_reads("the untouched base", shop.teach),
                teachers=teachers_of(name),
                settings=settings,
                rng=rng,
                alone=len(counts) == 1,
                mine=shop.miner(model, name, settings.hard_negatives, directory),
            ),
            shop.corpus,
            count,
        )
        for name, count in counts.items()
    }


def example_counts(settings: Training) -> dict[str, int]:
    """How many examples a pass asks of each objective: its share of them, and two at least to learn from."""
    total = sum(settings.objectives.values())
    return {name: max(2, round(settings.max_examples * share / total)) for name, share in settings.objectives.items()}
