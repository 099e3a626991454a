"""``koembed tune``: search a stage's settings, judged as the gate judges them. No checkpoint is touched."""

from __future__ import annotations

import hashlib
import logging
import math
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from koembed.adapters.model import adapted
from koembed.config import Adapters, Config, Weights
from koembed.corpus.packages import build_once
from koembed.errors import InputError
from koembed.models import open_model
from koembed.pipeline import logging_to, require
from koembed.storage import STAGE_FILE, cannot_write, read_json
from koembed.training.gate import Verdict
from koembed.training.stages import Workshop, fit_adapter, fit_weights

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

logger = logging.getLogger(__name__)

CONTRASTIVE = {"simcse", "span", "translation", "infonce", "passages"}  # objectives that have a temperature

SHOWN = 5  # trials in the table

Params = dict[str, Any]


def tune(
    config: Config,
    console: Console,
    target: str,
    minutes: float,
    examples: int | None = None,
    trials: int | None = None,
) -> list[str]:
    """Search until the time is up, and print the best trials. A search that was stopped continues.

    Args:
        target: ``stage1``, ``stage2``, ``stage3.language`` or ``stage3.tasks.NAME``.
        minutes: no trial begins after them.
        examples: of a trial, a pass; None: a quarter of the stage's.
        trials: stop at so many, those of earlier searches included.

    Returns:
        the best trial's settings as overrides.

    Raises:
        InputError: there is no such target, the stage before it is missing, optuna is not installed, nothing can be
            written below the root, or no trial ended in time.
    """
    deadline = time.monotonic() + 60 * minutes
    settings = find(config, target)
    stage = target[: len("stageN")]
    require(config, int(stage[-1]))
    settings = settings.model_copy(update={"max_examples": examples or math.ceil(settings.max_examples / 4)})
    directory = config.root / "tune"
    study = open_study(directory / f"{stage}.db", f"{target} {key(config, target, settings)}", config.seed)
    with logging_to(config.root / config.paths.logs / f"tune_{stage}.log"):
        shop = Workshop(config, Console(quiet=True))
        with console.status("training what the trials start from"):
            search = Search(shop, target, settings, directory, foundation(shop, target, directory))
        if not ended(study):
            study.enqueue_trial(own_point(settings))  # the config's own settings, to compare with
        while time.monotonic() < deadline and (trials is None or len(ended(study)) < trials):
            run_trial(search, study, console)
    best = sorted(ended(study), key=lambda trial: (-trial.values[0], trial.number))
    if not best:
        raise InputError(f"tune {target}: no trial ended within {minutes:g} minutes; raise --minutes")
    return print_best(search, best, console)


def find(config: Config, target: str) -> Weights | Adapters:
    """The settings that a target names.

    Raises:
        InputError: there are none.
    """
    known: dict[str, Weights | Adapters] = {
        "stage1": config.stage1,
        "stage2": config.stage2,
        "stage3.language": config.stage3.language,
        **{f"stage3.tasks.{name}": task for name, task in config.stage3.tasks.items()},
    }
    if target not in known:
        raise InputError(f"{target} cannot be tuned; use one of {', '.join(known)}")
    return known[target]


# What is searched


def space(settings: Weights | Adapters) -> dict[str, BaseDistribution]:
    """Around the config's own values: the learning rate up to ten times either way, all else up to four times.

    Only the shares' ratios count, so the first objective's stays.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    rate = settings.learning_rate
    found: dict[str, BaseDistribution] = {"learning_rate": FloatDistribution(rate / 10, min(rate * 10, 1.0), log=True)}
    if CONTRASTIVE & settings.objectives.keys():
        found["temperature"] = FloatDistribution(settings.temperature / 4, settings.temperature * 4, log=True)
    if isinstance(settings, Adapters):
        sizes = {max(1, round(settings.size * factor)) for factor in (0.25, 0.5, 1, 2, 4)}
        found["size"] = CategoricalDistribution(sorted(sizes))
    for name, share in list(settings.objectives.items())[1:]:
        found[f"objectives.{name}"] = FloatDistribution(share / 4, share * 4, log=True)
    return found


def own_point(settings: Weights | Adapters) -> Params:
    """The config's own point of the space."""
    own = settings.model_dump() | {f"objectives.{name}": share for name, share in settings.objectives.items()}
    return {name: own[name] for name in space(settings)}


def changes(settings: Weights | Adapters, point: Params) -> dict[str, Any]:
    """The settings at a point of the space, in three digits: what is printed is what was tried."""
    found: dict[str, Any] = {name: _short(value) for name, value in point.items() if "." not in name}
    if len(settings.objectives) > 1:
        shares = {name: point.get(f"objectives.{name}", share) for name, share in settings.objectives.items()}
        found["objectives"] = {name: _short(share / sum(shares.values())) for name, share in shares.items()}
    return found


def _short(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.3g}")


def flow(value: Any) -> str:
    """As YAML in one line.

    >>> flow({"cosine": 0.62, "distillation": 0.38})
    '{cosine: 0.62, distillation: 0.38}'
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {share}" for name, share in value.items()) + "}"
    return str(value)


# Trials


@dataclass(frozen=True)
class Search:
    """What all trials share.

    Attributes:
        settings: the config's own, with the trials' budget of examples.
        directory: scratch space for trainings.
        below: the model that every trial starts from.
    """

    shop: Workshop
    target: str
    settings: Weights | Adapters
    directory: Path
    below: Path


def foundations(config: Config, target: str) -> dict[str, Adapters]:
    """Adapters of its own stage that a target stands on: below a task the language's, and the tasks that it fuses.

    In the config's order, which has the fused before what fuses them.
    """
    task = target.removeprefix("stage3.tasks.")
    if task == target:
        return {}
    tasks = config.stage3.tasks
    below: set[str] = set()
    for name in reversed(tasks):
        if name in below | {task}:
            below.update(tasks[name].fuses)
    return {"language": config.stage3.language, **{name: tasks[name] for name in tasks if name in below}}


def foundation(shop: Workshop, target: str, directory: Path) -> Path:
    """The stage before; below a task, with the adapters it stands on, trained by the config and kept for next time."""
    before = shop.config.stage(int(target[len("stage")]) - 1)
    below = foundations(shop.config, target)
    place = directory / f"below-{target}-{key(shop.config, target)}"

    def build(path: Path) -> None:
        model = adapted(before)
        with TemporaryDirectory(dir=directory) as scratch:
            for name, settings in below.items():
                fit_adapter(shop, model, name, settings, Path(scratch))
        model.save(str(path), create_model_card=False)

    return build_once(place, build) if below else before


def key(config: Config, target: str, *settings: Weights | Adapters) -> str:
    """A name for all that trials share: only then are they comparable."""
    parent = read_json(config.stage(int(target[len("stage")]) - 1) / STAGE_FILE)["id"]
    shared = config.model_dump_json(include={"seed": True, "model": True, "data": True, "gate": True})
    parts = [section.model_dump_json() for section in (*foundations(config, target).values(), *settings)]
    return hashlib.sha256(" ".join([parent, shared, config.vocab.semantic_space, *parts]).encode()).hexdigest()[:12]


def open_study(file: Path, name: str, seed: int) -> Study:
    """The study of this name in a SQLite file, new or as earlier searches left it.

    Raises:
        InputError: optuna is not installed, or the file cannot be written or is none of SQLite's.
    """
    try:
        import optuna
        from sqlalchemy.exc import DatabaseError
    except ImportError:
        raise InputError("koembed tune: needs optuna; pip install -e '.[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            storage=f"sqlite:///{file}", study_name=name, direction="maximize", load_if_exists=True
        )
    except OSError as error:
        raise cannot_write(file, error) from error
    except DatabaseError as error:
        raise InputError(f"{file}: cannot be opened ({error.orig}); move it away and run again") from error
    # With the first search's seed, one that continues would ask for its first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    return study


def ended(study: Study) -> list[FrozenTrial]:
    """Trials that have a result: not those that were stopped, or run elsewhere at this moment."""
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE,))


def run_trial(search: Search, study: Study, console: Console) -> None:
    """Train with the settings that the sampler asks for; tell it the quality at the strength that the gate chose."""
    started = time.monotonic()
    trial = study.ask(space(search.settings))
    tried = changes(search.settings, trial.params)
    with console.status(f"trial {trial.number}"), TemporaryDirectory(dir=search.directory) as scratch:
        verdict = attempt(search, search.settings.model_copy(update=tried), Path(scratch))
    quality, before = (verdict.curve[alpha].quality(verdict.purpose) for alpha in (verdict.alpha, 0.0))
    seconds = round(time.monotonic() - started)
    for name, value in {"alpha": verdict.alpha, "before": before, "seconds": seconds}.items():
        trial.set_user_attr(name, value)
    study.tell(trial, quality)
    settings = ", ".join(f"{name} {flow(value)}" for name, value in tried.items())
    line = f"trial {trial.number}: quality {quality:.4f} at α {verdict.alpha:.2f}, {seconds} s: {settings}"
    console.print(line, markup=False, soft_wrap=True)
    logger.info("%s: %s", search.target, line)


def attempt(search: Search, settings: Weights | Adapters, directory: Path) -> Verdict:
    """Train what the target trains, in a directory of its own, and let the gate judge it."""
    shop, target = search.shop, search.target
    torch.manual_seed(shop.config.seed)  # adapters start at random: trials are to differ by their settings alone
    if isinstance(settings, Weights):
        model = open_model(search.below, shop.config.model.max_length)
        return fit_weights(shop, model, settings, directory)
    name = "bottleneck" if target == "stage2" else target.rpartition(".")[2]
    return fit_adapter(shop, adapted(search.below), name, settings, directory)


def print_best(search: Search, best: list[FrozenTrial], console: Console) -> list[str]:
    """A table of the best trials, best first, then the overrides of the very best, which are returned."""
    tried = [changes(search.settings, trial.params) for trial in best[:SHOWN]]
    table = Table(box=box.SIMPLE_HEAD, title=f"{search.target}: the best of {len(best)} trials", title_justify="left")
    for heading in ("trial", "quality", "α", "seconds", *tried[0]):
        table.add_column(heading)
    for trial, settings in zip(best, tried, strict=False):
        notes = trial.user_attrs
        cells = (trial.number, f"{trial.values[0]:.4f}", f"{notes['alpha']:.2f}", notes["seconds"], *settings.values())
        table.add_row(*map(flow, cells))
    console.print(table)
    first = best[0].user_attrs
    console.print(f"the stage before, alone: {first['before']:.4f}")
    if not first["alpha"]:
        console.print("[yellow]no trial won over it: raise --examples, or try other objectives or data[/]")
    overrides = [f"{search.target}.{name}={flow(value)}" for name, value in tried[0].items()]
    console.print(" ".join(map(shlex.quote, overrides)), markup=False, soft_wrap=True)
    return overrides
