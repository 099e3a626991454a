import io
import re

import pytest
from rich.console import Console

from koembed import pipeline
from koembed.cli import main
from koembed.config import Training, load_config
from koembed.errors import InputError
from koembed.plan import plan, steps
from test_pipeline import overrides

STEPS = re.compile(r"(?m)^\S+ \S+ (.*): (\d+) steps of (\d+) examples$")  # in a log
ODD = [
    "vocab.initializer=distill",
    "vocab.semantic_space=usem3",
    "vocab.distill.max_examples=5",
    "vocab.distill.batch_size=2",
    "stage1.objectives={simcse: 2, alignment: 1}",
    "stage1.batch_size=4",
    "stage1.accumulation=2",
    "stage1.epochs=1.5",
    "stage2.epochs=3",
]


def planned(config, *arguments) -> str:
    printed = io.StringIO()
    plan(config, Console(file=printed, width=500), *arguments)
    return printed.getvalue()


def test_the_plan_is_what_happens(bert_directory, tmp_path):
    config = load_config(None, [*overrides(tmp_path, bert_directory), *ODD])
    told = planned(config)
    assert not config.root.exists()
    assert told.count("to make") == 4
    assert "measured 3 translations" in told
    assert "3 sts_small" in told
    pipeline.make_stages(config, Console(quiet=True))
    logs = "".join((config.root / "logs" / name).read_text(encoding="utf-8") for name in pipeline.LOGS)
    assert len(STEPS.findall(logs)) == 6  # new rows, stage 1, stage 2, language and two tasks
    assert STEPS.findall(logs) == re.findall(r"(?m)^ +(.*): (\d+) steps of (\d+) examples, from", told)
    assert planned(config).count("done, in") == 4
    assert planned(config, 2, 3, True).count("to make") == 2


def test_a_dry_run_of_the_command_writes_nothing(bert_directory, tmp_path, capsys):
    arguments = overrides(tmp_path, bert_directory)
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--dry-run", "--to", "stage1", *arguments])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.count("to make") == 2
    assert not load_config(None, arguments).root.exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stage3.tasks.sts.objectives={passages: 1}", "objective passages needs queries with passages"),
        ("stage1={objectives: {distillation: 1}, teachers: [no/such-model]}", "no/such-model"),
        ("evaluation.sts=[none.tsv]", "none.tsv"),
        ("model.base=nowhere", "nowhere"),
        ("vocab.trim=[none.txt]", "none.txt"),
    ],
)
def test_what_would_stop_a_run_stops_the_plan(bert_directory, tmp_path, setting, message):
    config = load_config(None, [*overrides(tmp_path, bert_directory), setting])
    with pytest.raises(InputError, match=message):
        planned(config)
    assert not config.root.exists()


def test_a_run_asks_for_the_data_of_all_its_stages_first(bert_directory, tmp_path):
    settings = [*overrides(tmp_path, bert_directory), "stage3.tasks.retrieval.objectives={passages: 1}"]
    config = load_config(None, settings)
    with pytest.raises(InputError, match="objective passages needs queries with passages"):
        pipeline.make_stages(config, Console(quiet=True))
    assert not config.root.exists()
    pipeline.make_stages(config, Console(quiet=True), 0, 2)  # stages that need none of it are made


def test_several_processes_drop_what_fills_no_batch_of_each():
    settings = Training(batch_size=4, accumulation=2, epochs=2)
    assert steps([9, 7], settings, together=1) == 6  # 3 + 2 batches, 3 steps a pass
    assert steps([9, 7], settings, together=2) == 2  # 2 + 1 whole batches, 1 for each process
