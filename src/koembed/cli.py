"""The command line: ``koembed run | expand | train | evaluate | report | export | tune | inspect | data``."""

from __future__ import annotations

import ctypes
import io
import logging
import os
import platform
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from koembed.errors import InputError

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP's advice to programmers
os.environ.setdefault("TQDM_DISABLE", "1")  # as transformers shows when it reads GGUF

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h: what is given back to the kernel, what is mapped on its own

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make an embedding model good at Korean.",
)
data_app = typer.Typer(no_args_is_help=True, help="Look at and check the data.")
app.add_typer(data_app, name="data")

ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML file; without it, the quickstart.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings to change.")]
Stage = Annotated[str, typer.Option(metavar="stageN")]


@app.command()
def run(
    overrides: Overrides = None,
    config: ConfigOption = None,
    first: Annotated[str, typer.Option("--from", metavar="stageN", help="First stage to make.")] = "stage0",
    last: Annotated[str, typer.Option("--to", metavar="stageN", help="Last stage to make.")] = "stage3",
    fresh: Annotated[bool, typer.Option(help="Make the stages again; old checkpoints are moved aside.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read all data, tell what would be made, stop.")] = False,
) -> None:
    """All stages that are not done yet, then the evaluation, the table and the report."""
    from koembed import pipeline
    from koembed.config import load_config
    from koembed.plan import plan

    do = plan if dry_run else pipeline.run
    do(load_config(config, overrides), console(), _number(first), _number(last), fresh)


@app.command()
def expand(overrides: Overrides = None, config: ConfigOption = None, fresh: bool = False) -> None:
    """Stage 0 alone: expand the vocabulary."""
    from koembed import pipeline
    from koembed.config import load_config

    pipeline.make_stages(load_config(config, overrides), console(), 0, 0, fresh)


@app.command()
def train(
    stage: Annotated[str, typer.Argument(metavar="stageN", help="stage1, stage2 or stage3")],
    overrides: Overrides = None,
    config: ConfigOption = None,
    fresh: bool = False,
) -> None:
    """One trained stage alone; the stage before it must be done."""
    from koembed import pipeline
    from koembed.config import load_config

    number = _number(stage)
    if number == 0:
        raise InputError("stage0 is not trained; use koembed expand")
    pipeline.make_stages(load_config(config, overrides), console(), number, number, fresh)


@app.command()
def evaluate(
    overrides: Overrides = None,
    config: ConfigOption = None,
    fresh: Annotated[bool, typer.Option(help="Measure again what was measured before.")] = False,
) -> None:
    """Measure the base and every stage that is done; print the table, write results.json and report.html."""
    from koembed import pipeline
    from koembed.config import load_config

    pipeline.evaluate(load_config(config, overrides), console(), fresh)


@app.command()
def report(overrides: Overrides = None, config: ConfigOption = None) -> None:
    """The table and report.html again, from what was measured last."""
    from koembed import pipeline
    from koembed.config import load_config

    pipeline.report(load_config(config, overrides), console())


@app.command()
def export(
    stage: Annotated[str, typer.Argument(metavar="[stageN]")] = "stage3",
    overrides: Overrides = None,
    config: ConfigOption = None,
) -> None:
    """A stage that is done as plain models, one for each task, which open where koembed is not installed."""
    from koembed import pipeline
    from koembed.config import load_config

    if "=" in stage:  # the stage was left out, and this is the first override
        stage, overrides = "stage3", [stage, *(overrides or [])]
    pipeline.export(load_config(config, overrides), console(), _number(stage))


@app.command()
def tune(
    target: Annotated[str, typer.Argument(help="stage1, stage2, stage3.language or stage3.tasks.NAME")],
    overrides: Overrides = None,
    config: ConfigOption = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="No trial begins after them.")] = 30,
    examples: Annotated[int | None, typer.Option(min=1, help="A pass of a trial; without it, a quarter.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Stop at so many, earlier searches' included.")] = None,
) -> None:
    """Search a stage's settings on the select split; a search that was stopped continues."""
    from koembed.config import load_config
    from koembed.tune import tune

    tune(load_config(config, overrides), console(), target, minutes, examples, trials)


@app.command()
def inspect(
    model: Annotated[str, typer.Argument(help="Directory, hub id, or pypi:NAME of a packaged model.")],
    against: Annotated[str | None, typer.Option(metavar="BASE", help="The model that it was made from.")] = None,
    text: Annotated[str | None, typer.Option(metavar="FILE", help="Korean texts; without it KoPairs' test.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON line, in place of the table.")] = False,
) -> None:
    """Check a model's tokenizer, rows and pooling; exit 1 when a gate fails."""
    from koembed.corpus.data import locate_model
    from koembed.models import open_model
    from koembed.report.inspection import print_inspection
    from koembed.vocab.inspect import inspect, korean_texts

    texts = korean_texts(text)
    base = None if against is None else open_model(locate_model(against))
    found = inspect(open_model(locate_model(model)), texts, base)
    names = {"inspected": model, "against": against, "texts": text or "kopairs"}
    if not print_inspection(found, names, console(), as_json):
        raise typer.Exit(1)


@data_app.command("check-pairs")
def check_pairs(as_json: Annotated[bool, typer.Option("--json", help="End with one JSON line.")] = False) -> None:
    """Check KoPairs, the labelled pairs that ship with koembed; exit 1 when a gate fails."""
    from koembed.corpus.kopairs.check import check, print_report

    if not print_report(check(), console(), as_json):
        raise typer.Exit(1)


def console() -> Console:
    """The terminal; silent on every process but the first of a distributed run."""
    return Console(quiet=int(os.environ.get("RANK", "0")) > 0, highlight=False)


def _number(stage: str) -> int:
    if stage not in ("stage0", "stage1", "stage2", "stage3"):
        raise InputError(f"stage {stage!r}: use stage0, stage1, stage2 or stage3")
    return int(stage[-1])


def main(arguments: list[str] | None = None) -> None:
    """Entry point, with the given arguments or the process's own.

    Exit 0: done; 1: a gate was not met; 2: the input was wrong, said in one line.
    """
    quiet_libraries()
    keep_freed_memory()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # consoles that are not UTF-8 show ? for what they cannot
    try:
        sys.exit(app(arguments, standalone_mode=False) or 0)
    except InputError as error:
        sys.exit(_fail(str(error)))
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(_fail("stopped; the same command continues from the last finished stage", 130))
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage errors
            sys.exit(_fail(error.format_message()))
        raise


def quiet_libraries() -> None:
    """Only what is koembed's own is printed: no bars for loading weights, no advice to programmers."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for library in ("sentence_transformers", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def keep_freed_memory() -> None:
    """Have glibc hand freed memory to the next tensor, where it would give it back to the kernel.

    Buffers above 32 MB, such as a vocabulary's gradient, are otherwise mapped anew for each use and cleared page by
    page: a fifth of a training step of MiniLM with 45K rows (benchmarks/kept_memory.py). Other C libraries stay as
    they are.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def _fail(message: str, code: int = 2) -> int:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"koembed: {message}", markup=False)
    return code


if __name__ == "__main__":
    main()
