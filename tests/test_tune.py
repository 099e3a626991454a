"""Searches on a 2-layer model: they continue, leave the stages alone, and end with settings that a config takes."""

import builtins
import json
from pathlib import Path

import optuna
import pytest
import torch
from rich.console import Console
from sentence_transformers import SentenceTransformer

from koembed import pipeline
from koembed.config import Adapters, Config, load_config
from koembed.errors import InputError
from koembed.training.objectives import OBJECTIVES
from koembed.training.objectives.contrastive import ContrastiveLoss
from koembed.tune import CONTRASTIVE, changes, ended, foundations, own_point, space, tune
from support import built
from test_pipeline import overrides

QUIET = Console(quiet=True)
FUSED = {"chat": [], "both": ["sts", "chat"], "all": ["retrieval", "both"]}


@pytest.fixture(scope="module")
def arguments(bert_directory, tmp_path_factory) -> list[str]:
    """Settings of a run whose stages 0 to 2 are done."""
    short = ["gate.steps=1", "stage3.language.objectives={cosine: 1}", "stage3.tasks.sts.objectives={cosine: 1}"]
    settings = [*overrides(tmp_path_factory.mktemp("tune"), bert_directory), *short]
    pipeline.make_stages(load_config(None, settings), QUIET, 0, 2)
    return settings


def files(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*")}


def studies(config: Config, stage: str) -> dict[str, optuna.Study]:
    storage = f"sqlite:///{config.root / 'tune' / stage}.db"
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage) for name in names}


def test_a_search_continues_and_ends_with_settings_that_a_config_takes(arguments):
    config = load_config(None, [*arguments, "stage2.objectives={cosine: 0.5, infonce: 0.5}"])
    before = files(config.stage(2).parents[1])
    tune(config, QUIET, "stage2", minutes=5, examples=16, trials=2)
    (study,) = studies(config, "stage2").values()
    assert ended(study)[0].params == own_point(config.stage2)
    found = tune(config, QUIET, "stage2", minutes=5, examples=16, trials=3)
    (study,) = studies(config, "stage2").values()
    trials = ended(study)
    assert len(trials) == 3
    assert len({str(trial.params) for trial in trials}) == 3
    assert {override.partition("=")[0] for override in found} == {
        f"stage2.{name}" for name in ("learning_rate", "temperature", "size", "objectives")
    }
    best = max(trials, key=lambda trial: trial.values[0])
    tuned = load_config(None, [*arguments, *found]).stage2
    assert tuned.model_dump(include={"learning_rate", "temperature", "size", "objectives"}) == changes(
        config.stage2, best.params
    )
    assert all(trial.values[0] >= trial.user_attrs["before"] for trial in trials)
    assert files(config.stage(2).parents[1]) == before
    assert [file.name for file in (config.root / "tune").iterdir()] == ["stage2.db"]


def test_the_settings_found_make_the_stage_that_was_judged(arguments):
    config = load_config(None, [*arguments, "stage2.max_examples=12"])
    found = tune(config, QUIET, "stage2", minutes=5, examples=12, trials=2)
    study = next(study for name, study in studies(config, "stage2").items() if len(ended(study)) == 2)
    config = load_config(None, [*arguments, "stage2.max_examples=12", *found])
    torch.manual_seed(config.seed)
    pipeline.make_stages(config, QUIET, 2, 2, fresh=True)
    verdict = json.loads((config.stage(2) / "stage.json").read_text())["gate"]["bottleneck"]
    (chosen,) = (point for point in verdict["curve"] if point["alpha"] == verdict["alpha"])
    quality = (chosen["spearman"] + chosen["auc"] + chosen["retrieval"]) / 3
    assert quality == pytest.approx(study.best_value, abs=1e-6)


def test_a_task_is_tuned_on_top_of_its_language(arguments):
    config = load_config(None, arguments)
    tune(config, QUIET, "stage3.tasks.sts", minutes=5, examples=8, trials=1)
    (below,) = (config.root / "tune").glob("below-stage3.tasks.sts-*")
    made = files(below)
    model = SentenceTransformer(str(below), trust_remote_code=True, device="cpu")
    assert list(model[0].specs) == ["bottleneck", "language"]
    found = tune(config, QUIET, "stage3.tasks.sts", minutes=5, examples=8, trials=2)
    assert files(below) == made
    assert "sts" in load_config(None, [*arguments, *found]).stage3.tasks
    assert not config.stage(3).exists()


def test_weights_are_tuned_as_adapters_are(arguments):
    stage1 = [
        "stage1.learning_rate=5e-05",
        "stage1.temperature=0.05",
        "stage1.objectives={simcse: 0.6, alignment: 0.4}",
    ]
    config = load_config(None, [*arguments, *stage1])
    assert tune(config, QUIET, "stage1", minutes=5, examples=8, trials=1) == stage1


def test_only_contrastive_objectives_have_a_temperature(bert_directory):
    model = SentenceTransformer(str(bert_directory), device="cpu")
    losses = {name: built(name, model).loss for name in OBJECTIVES}
    assert {name for name, loss in losses.items() if isinstance(loss, ContrastiveLoss)} == CONTRASTIVE
    assert "temperature" not in space(Adapters(objectives={"cosine": 1}))


@pytest.mark.parametrize("size", [1, 3, 256])
@pytest.mark.parametrize("rate", [1e-5, 0.5])
def test_the_space_holds_the_configs_own_settings(size, rate):
    settings = Adapters(size=size, learning_rate=rate, objectives={"span": 3, "cosine": 1})
    for name, distribution in space(settings).items():
        assert distribution._contains(distribution.to_internal_repr(own_point(settings)[name]))
    assert changes(settings, own_point(settings))["objectives"] == {"span": 0.75, "cosine": 0.25}


def test_without_optuna_it_says_what_to_install(arguments, monkeypatch):
    def no_optuna(name, *rest):
        if name == "optuna":
            raise ImportError(name)
        return importing(name, *rest)

    importing = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", no_optuna)
    with pytest.raises(InputError, match=r"pip install -e .*tune"):
        tune(load_config(None, arguments), QUIET, "stage2", minutes=5)


def test_a_damaged_study_is_one_line(bert_directory, tmp_path):
    config = load_config(None, overrides(tmp_path, bert_directory))
    pipeline.make_stages(config, QUIET, 0, 0)
    (config.root / "tune").mkdir()
    (config.root / "tune" / "stage1.db").write_text("no database " * 100)
    with pytest.raises(InputError, match=r"stage1.db: cannot be opened \(file is not a database\)"):
        tune(config, QUIET, "stage1", minutes=5)


@pytest.mark.parametrize(
    ("target", "changed", "message"),
    [
        ("stage3", "seed=1", "stage3 cannot be tuned; use one of stage1, stage2, stage3.language"),
        ("stage3.language", "paths.checkpoints=elsewhere", "stage 3 starts from .*elsewhere.* run stage 2"),
    ],
)
def test_a_wrong_target_is_one_line(arguments, target, changed, message):
    with pytest.raises(InputError, match=message):
        tune(load_config(None, [*arguments, changed]), QUIET, target, minutes=5)


def test_a_fusion_of_fusions_stands_on_all_that_they_fuse(arguments):
    tasks = [
        f"stage3.tasks.{name}={{objectives: {{cosine: 1}}, fuses: {list(fused)}}}" for name, fused in FUSED.items()
    ]
    config = load_config(None, [*arguments, *(task.replace("'", "") for task in tasks)])
    assert list(foundations(config, "stage3.tasks.all")) == ["language", "sts", "retrieval", "chat", "both"]
    assert list(foundations(config, "stage3.tasks.both")) == ["language", "sts", "chat"]
