"""The whole work, top to bottom: four stages, a gate after each from stage 1 on; then all measured side by side."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from pydantic import ValidationError
from rich.console import Console

from koembed.adapters.model import AdaptedTransformer, adapted
from koembed.config import Config, differences
from koembed.corpus import kopairs
from koembed.corpus.data import load_bitext, measured_texts, trained_on
from koembed.errors import InputError
from koembed.evaluation.significance import gains
from koembed.evaluation.suites.stages import load_suite, measure
from koembed.export.fold import folded
from koembed.export.modelcard import model_card
from koembed.export.portable import make_portable
from koembed.metrics import encode
from koembed.models import open_model
from koembed.processes import processes
from koembed.report.page import write_report
from koembed.report.table import print_table
from koembed.storage import STAGE_FILE, cannot_write, read_json, whole_directory, write_json
from koembed.training.stages import STAGES, Outcome, Workshop, require_inputs

logger = logging.getLogger(__name__)

LOGS = ("stage0.log", "stage1_enhanced.log", "stage2.log", "stage3_optimized.log")  # the names of the first version
EVALUATION_LOG = "evaluation_correct.log"
SUITE = 5  # raised when other things are measured: results of before are then measured again
NAMES = ("vocabulary", "SimCSE", "bottleneck", "hierarchical")


def run(config: Config, console: Console, first: int = 0, last: int = 3, fresh: bool = False) -> dict[str, Any]:
    """Every stage that is not done yet, then the evaluation, the table and the report.

    Args:
        first, last: stages to make; those before ``first`` must be done.
        fresh: make them again; the checkpoints there are moved aside, not deleted.

    Returns:
        the content of results.json.
    """
    make_stages(config, console, first, last, fresh)
    return evaluate(config, console)


def make_stages(config: Config, console: Console, first: int = 0, last: int = 3, fresh: bool = False) -> None:
    """Make stages ``first`` to ``last``, passing over those that are done.

    Raises:
        InputError: a stage before ``first`` is missing, one that is done was made with other settings, or one that
            is not lacks data or a teacher.
    """
    waiting, shop = unfinished(config, first, last, fresh), Workshop(config, console)
    require_inputs(shop, waiting)
    for number in range(first, last + 1):
        if number in waiting:
            make_stage(shop, number)
        else:
            say_done(config, console, number)


def say_done(config: Config, console: Console, number: int) -> None:
    """Print that there is nothing to make of a stage."""
    console.print(f"stage {number}  {NAMES[number]}: done, in {config.stage(number)}")


def unfinished(config: Config, first: int, last: int, fresh: bool = False) -> range:
    """Of stages ``first`` to ``last`` those to make: from the first that is not done, all.

    Raises:
        InputError: a stage before ``first`` is missing, or one that is done was made with other settings.
    """
    require(config, first)
    for number in range(first, last + 1):
        if fresh or not is_done(config, number):
            return range(number, last + 1)
        if change := changed(config, number):
            raise InputError(f"{change}; make it again with --fresh, or choose another root")
    return range(0)


def require(config: Config, number: int) -> None:
    """Make sure that the stage before one is there.

    Raises:
        InputError: it is missing, or was made from another than is there now.
    """
    if number > 0 and not is_done(config, number - 1):
        before = config.stage(number - 1)
        raise InputError(f"stage {number} starts from {before}, which is missing; run stage {number - 1}")


def make_stage(shop: Workshop, number: int) -> None:
    """Make one stage and put it in its place, whole or not at all."""
    config, started = shop.config, time.monotonic()
    shop.console.print(f"[bold]stage {number}[/]  {NAMES[number]}")
    with logging_to(config.root / config.paths.logs / LOGS[number]):
        outcome = STAGES[number](shop)
        notes = {
            "stage": number,
            "id": uuid4().hex,
            "parent": None if number == 0 else stage_id(config, number - 1),
            "seconds": round(time.monotonic() - started, 1),
            "settings": config.made_from(number),
            "held_out": list(measured_texts(config)),
            **outcome.notes,
        }
        if processes().is_main_process:
            save(outcome, notes, config.stage(number))
            # This training is done, and later ones began from another checkpoint: none of them is to be continued.
            for training in filter(Path.exists, map(config.training, range(number, len(STAGES)))):
                shutil.rmtree(training)
        processes().wait_for_everyone()
        logger.info("stage %d done in %.0f s", number, notes["seconds"])
    for name, verdict in outcome.notes.get("gate", {}).items():
        note = "kept at" if verdict["alpha"] else "[yellow]did not win on the select split, left out:[/]"
        shop.console.print(f"         gate: {name} {note} α = {verdict['alpha']:.2f}")


def save(outcome: Outcome, notes: dict[str, Any], place: Path) -> None:
    """Write a stage's model; what lay there before is moved aside."""
    with whole_directory(place) as partial:
        outcome.model.save(str(partial), create_model_card=False)
        if outcome.expansion:
            write_json(partial / "expansion.json", outcome.expansion.report())
            notes.pop("tokens", None)
        write_json(partial / STAGE_FILE, notes)
        if place.exists():
            place.rename(place.with_name(f"{place.name}.{time.strftime('%Y%m%d-%H%M%S')}"))


def is_done(config: Config, number: int) -> bool:
    """Whether a stage's checkpoint is there and was made from the stages before it that are there now."""
    file = config.stage(number) / STAGE_FILE
    if number == 0 or not file.exists():
        return file.exists()
    return is_done(config, number - 1) and read_json(file)["parent"] == stage_id(config, number - 1)


def stage_id(config: Config, number: int) -> str:
    """What tells a stage's checkpoint from every other."""
    return read_json(config.stage(number) / STAGE_FILE)["id"]


def changed(config: Config, number: int) -> str | None:
    """What a stage that is done was made with and the config has otherwise, in words; None where nothing is."""
    now, where = config.made_from(number), f"stage {number}, in {config.stage(number)},"
    noted = read_json(config.stage(number) / STAGE_FILE).get("settings", now)
    try:
        made = Config.model_validate(noted).made_from(number)  # settings that are newer than it get their defaults
    except ValidationError:
        return f"{where} was made by another version of koembed, with settings that this one does not have"
    for key, old, new in differences(made, now):
        return f"{where} was made with {key}={old}, now it is {new}"
    return None


def evaluate(config: Config, console: Console, fresh: bool = False) -> dict[str, Any]:
    """Measure the untouched base and every stage that is done; write results.json and report.html; print the table.

    What was measured before, on the same sentences, is not measured again, unless ``fresh``.
    """
    settings = config.evaluation
    with logging_to(config.root / config.paths.logs / EVALUATION_LOG):
        with console.status("reading the translations; the first time, packages are downloaded"):
            bitext = load_bitext(config.data.bitext_test, "test")
        suite = load_suite(settings, bitext)
        how = {
            "suite": SUITE,
            "sentences": suite.fingerprint(),
            "bootstrap": settings.bootstrap,
            "model": config.model.model_dump(mode="json"),
        }
        known = {} if fresh else known_results(results_file(config), how)
        warn_of_learned(config, console)
        shop = Workshop(config, console)
        stages: list[dict[str, Any]] = []
        for number in range(-1, len(STAGES)):
            if number >= 0 and not is_done(config, number):
                break
            if number >= 0 and (change := changed(config, number)):
                console.print(f"[yellow]{change}[/]")
            key = "base" if number < 0 else stage_id(config, number)
            if key not in known:
                name = "base" if number < 0 else f"stage {number}"
                with console.status(f"evaluating {name}"):
                    model = shop.base if number < 0 else open_model(config.stage(number), config.model.max_length)
                    known[key] = measure(model, suite)
            stages.append({**known[key], "stage": number, "name": "base" if number < 0 else NAMES[number], "id": key})
            if number >= 0:
                for gain, before in (("gain", stages[-2]), ("gain_on_base", stages[0])):
                    stages[-1][gain] = gains(before, stages[-1], suite.scores(), settings.bootstrap)
            single = {name: found for name, found in known[key].items() if name not in ("cosines", "queries")}
            logger.info("%s %s", stages[-1]["name"], json.dumps(single))
        results = {"settings": how, "stages": stages}
    if processes().is_main_process:
        write_json(results_file(config), results)
        report(config, console)
    return results


def warn_of_learned(config: Config, console: Console) -> None:
    """Say of every source that was named after a stage was made how many of its sentences were trained on."""
    done = [number for number in range(len(STAGES)) if is_done(config, number)]
    held_out = [set(read_json(config.stage(number) / STAGE_FILE).get("held_out", ())) for number in done]
    late = [file for file in measured_texts(config) if not all(file in known for known in held_out)]
    if not late:
        return
    with console.status("looking for sentences that were trained on"):
        found = trained_on(config)
    for file in filter(found.get, late):
        advice = "they flatter every stage; made again with --fresh, none is trained on them"
        console.print(f"[yellow]{file}: {found[file]:,} of its sentences are among the training data: {advice}[/]")


def results_file(config: Config) -> Path:
    """Where the evaluation writes what it measured."""
    return config.root / "results.json"


def report(config: Config, console: Console) -> None:
    """Write report.html from what was measured last, and print the table.

    Raises:
        InputError: nothing was measured yet.
    """
    file = results_file(config)
    if not file.exists():
        raise InputError(f"{file}: nothing was measured yet; run koembed evaluate first")
    results = read_json(file)
    write_report(config.root / "report.html", config, results)
    print_table(results, console)
    console.print(f"results: {file}   report: {config.root / 'report.html'}", soft_wrap=True)


def known_results(file: Path, how: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Results of an earlier evaluation by checkpoint id, if it measured the same in the same way."""
    if not file.exists() or (earlier := read_json(file))["settings"] != how:
        return {}
    return {stage["id"]: stage for stage in earlier["stages"]}


def measured_until(config: Config, number: int) -> list[dict[str, Any]]:
    """Results of the base and of the stages up to one, if they are of the checkpoints that are there now."""
    stages = read_json(file)["stages"] if (file := results_file(config)).exists() else []
    measured, wanted = stages[: number + 2], ["base", *(stage_id(config, stage) for stage in range(number + 1))]
    return measured if [stage["id"] for stage in measured] == wanted else []


def export(config: Config, console: Console, number: int) -> list[Path]:
    """Write a stage that is done as plain models that open without koembed: one, or one for each of its tasks.

    Raises:
        InputError: it is not done, or its adapters cannot be folded.
    """
    if not is_done(config, number):
        raise InputError(f"{config.stage(number)}: no finished stage {number} to export; run it first")
    measured = measured_until(config, number)
    model = adapted(config.stage(number))
    written: list[Path] = []
    tasks = cast(AdaptedTransformer, model[0]).tasks
    own: list[str | None] = [*tasks] if tasks else [None]
    for task in own:
        place = config.root / config.paths.export / "-".join(filter(None, (f"stage{number}", task)))
        plain = folded(model, config.stage(number), task)
        with whole_directory(place) as partial:
            plain.save(str(partial), create_model_card=False)
            make_portable(partial)
            card = model_card(place.name, plain, config, measured, task, tasks)
            (partial / "README.md").write_text(card, encoding="utf-8")
            if place.exists():
                shutil.rmtree(place)  # nothing in it that the stage does not have
        sentences = [pair.sentence1 for pair in kopairs.pairs("test")[:64]]
        found = encode(open_model(place), sentences) - encode(model, sentences, task=task)
        line = f"{place}: opens without koembed; vectors differ by {abs(found).max():.0e} at most"
        console.print(line, soft_wrap=True)
        written.append(place)
    return written


@contextmanager
def logging_to(file: Path) -> Iterator[None]:
    """Send koembed's log to a file, appended; of several processes only the first writes."""
    if not processes().is_main_process:
        yield
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(file, encoding="utf-8")
    except OSError as error:
        raise cannot_write(file, error) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    root = logging.getLogger("koembed")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
