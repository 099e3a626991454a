"""One training run: any mixture of objectives on the sentence-transformers trainer, from one CPU to many GPUs."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset, DatasetDict, Value
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.training_args import MultiDatasetBatchSamplers
from torch import Tensor, nn
from transformers import PrinterCallback, TrainerCallback

from koembed.config import Training, Weights
from koembed.errors import InputError
from koembed.models import backbone, default_prompt, has_bf16, token_lengths
from koembed.processes import processes
from koembed.storage import cannot_write
from koembed.training.attention import float32_attention
from koembed.training.dropout import dropout
from koembed.training.objectives import Objective

logger = logging.getLogger(__name__)

# Batches whose texts are sorted by length together: enough to pad little, few enough to stay random.
SORTED_BATCHES = 50

WEIGHTS = "trained.safetensors"  # in a checkpoint


def train(
    model: SentenceTransformer,
    objectives: dict[str, Objective],
    settings: Training,
    directory: Path,
    label: str,
    seed: int,
    console: Console,
) -> None:
    """Train what ``model`` leaves unfrozen, in place.

    Each batch holds examples of one objective; objectives take turns in proportion to their examples.

    Args:
        directory: checkpoints are kept in it; a run that was killed continues from the newest.
    """
    arguments = trainer_arguments(settings, directory, seed)
    if isinstance(settings, Weights):  # an adapter leaves the embeddings frozen
        arguments.learning_rate_mapping = embedding_rate(model, settings.embedding_learning_rate)
    arguments.prompts = {name: column_prompts(model, objective) for name, objective in objectives.items()}
    if arguments.dataloader_drop_last:
        require_whole_batches(objectives, settings.batch_size, label)
    trainer = Trainer(objectives, model=model, args=arguments, callbacks=[ProgressBar(label, console)])
    trainer.remove_callback(PrinterCallback)
    checkpoint = last_checkpoint(directory)
    whole_length = model.max_seq_length
    model.max_seq_length = min(settings.max_length, whole_length or settings.max_length)
    needs_dropout = any(objective.needs_dropout for objective in objectives.values())
    attention = float32_attention(model) if arguments.bf16 and arguments.use_cpu else nullcontext()
    with attention, dropout(model, settings.dropout if needs_dropout else 0.0):
        trainer.train(resume_from_checkpoint=checkpoint)
    # Accelerate leaves the autocast around the model's forward, which would go on in bf16. It also leaves a mark that
    # the model is prepared, and the next training of the same model would go without the autocast.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    vars(model).pop("_is_accelerate_prepared", None)  # of several processes, each model's wrapper bears the mark
    model.max_seq_length = whole_length
    model.eval()


def trainer_arguments(settings: Training, directory: Path, seed: int) -> SentenceTransformerTrainingArguments:
    """The settings as the trainer takes them.

    Weights stay float32, the arithmetic is autocast to bf16 where that is faster: AdamW's small updates would round
    away in bf16. No weight decay: it would shrink rows that receive no gradient.
    """
    on_gpu = torch.cuda.is_available()
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(directory),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        optim="adamw_torch_fused",  # on the CPU too: an update of a large vocabulary costs an eighth of the plain one
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,
        max_grad_norm=settings.max_grad_norm,
        weight_decay=0.0,
        bf16=settings.bf16 and has_bf16(),
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        # Gathered negatives must have one shape on all processes.
        dataloader_drop_last=processes().num_processes > 1,
        multi_dataset_batch_sampler=MultiDatasetBatchSamplers.PROPORTIONAL,
        save_steps=settings.save_steps,
        save_total_limit=1,
        logging_steps=10,
        report_to="none",
        log_level_replica="passive",  # as quiet as the first process
        disable_tqdm=True,
        seed=seed,
    )
    # Of several GPUs one process takes one: torch's DataParallel copies hooks, and every copy would run one adapter.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def require_whole_batches(objectives: dict[str, Objective], batch_size: int, label: str) -> None:
    """Make sure that each objective has a whole batch, and each process a batch: the last, short one is dropped.

    Raises:
        InputError: one has not, or all have fewer than there are processes.
    """
    batches = {name: len(objective.dataset) // batch_size for name, objective in objectives.items()}
    advice = "lower batch_size, give more data, or train on fewer processes"
    for name in batches:
        if not batches[name]:
            few = len(objectives[name].dataset)
            raise InputError(f"{label}: {name} has {few} examples, which fill no batch of {batch_size}; {advice}")
    whole, together = sum(batches.values()), processes().num_processes
    if whole < together:
        raise InputError(f"{label}: fewer whole batches ({whole}) than processes ({together}); {advice}")


def last_checkpoint(directory: Path) -> str | None:
    """The newest whole checkpoint; one whose writing was cut short lacks the trainer's state, which is written last."""
    whole = [state.parent for state in directory.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.partition("-")[2]))) if whole else None


class Trainer(SentenceTransformerTrainer):
    """The sentence-transformers trainer on objectives, whose columns go through the model as ``loss_of`` has them.

    Its checkpoints hold only what trains, the losses' own parameters included. That is all a resumed run lacks, it is
    small, and it needs no model that can be opened: LoRA and split embeddings cannot before they are merged.
    """

    def __init__(self, objectives: dict[str, Objective], **settings: Any) -> None:
        self.objectives = objectives
        super().__init__(
            train_dataset=DatasetDict({name: objective.dataset for name, objective in objectives.items()}),
            loss={name: objective.loss for name, objective in objectives.items()},
            **settings,
        )

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Of one batch of one objective; ``model`` is the one that DDP has wrapped, where it has."""
        objective = self.objectives[inputs.pop("dataset_name")]
        features, labels = self.collect_features(inputs)
        return objective.loss_of(model, features, labels)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None: its examples take minutes on long data sets."""

    def get_batch_sampler(self, dataset: Dataset, *args: Any, **kwargs: Any) -> LengthGroupedBatchSampler:
        """Batches of texts that the model reads as about equally long."""
        return LengthGroupedBatchSampler(
            dataset, longest(cast(SentenceTransformer, self.model), dataset), *args, **kwargs
        )

    def _trained(self) -> dict[str, Tensor]:
        """By place, not by name: the names of one parameter differ between one process and several."""
        parameters = nn.ModuleList(cast("dict[str, nn.Module]", self.loss).values()).parameters()
        return {str(place): weight for place, weight in enumerate(parameters) if weight.requires_grad}

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, SafetensorError, RuntimeError) as error:  # torch has the last of a full disk
            raise cannot_write(Path(cast(str, self.args.output_dir)), error) from error

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        directory = Path(cast(str, output_dir or self.args.output_dir))
        directory.mkdir(parents=True, exist_ok=True)
        save_file({place: weight.detach() for place, weight in self._trained().items()}, directory / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        saved = load_file(Path(resume_from_checkpoint) / WEIGHTS)
        with torch.no_grad():
            for place, weight in self._trained().items():
                weight.copy_(saved[place])


def column_prompts(model: SentenceTransformer, objective: Objective) -> dict[str, str]:
    """What is put before the texts of each column, as ``encode`` or its kinds for retrieval will do."""
    columns = objective.dataset.column_names
    if not objective.retrieves:
        return dict.fromkeys(columns, default_prompt(model))
    prompts = cast("dict[str, str]", model.prompts)
    return {columns[0]: prompts["query"], **dict.fromkeys(columns[1:], prompts["document"])}


def embedding_rate(model: SentenceTransformer, rate: float | None) -> dict[str, float]:
    """The input embeddings' own learning rate, by a pattern of their parameter's name; empty where they are frozen."""
    embeddings = set(backbone(model).get_input_embeddings().parameters())
    names = [name for name, weight in model.named_parameters() if weight in embeddings and weight.requires_grad]
    return {f"{re.escape(name)}$": rate for name in names} if rate else {}


def longest(model: SentenceTransformer, dataset: Dataset) -> Tensor:
    """Tokens that the model reads of each example's longest text, int64 [examples].

    Letters do not tell: of multilingual-e5-small's tokens a Korean one holds two letters, an English one four.
    """
    columns = [list(dataset[name]) for name, kind in dataset.features.items() if kind == Value("string")]
    return torch.from_numpy(np.max([token_lengths(model, column) for column in columns], axis=0))


class LengthGroupedBatchSampler(DefaultBatchSampler):
    """Random batches of examples of about one length, so that little is spent on padding.

    Indices are shuffled, cut into groups of 50 batches, sorted by length within each, and the batches shuffled again.

    Args:
        lengths: of each example of the dataset, int64 [examples].
    """

    def __init__(self, dataset: Dataset, lengths: Tensor, batch_size: int, drop_last: bool, **kwargs: Any) -> None:
        super().__init__(dataset, batch_size=batch_size, drop_last=drop_last, **kwargs)
        self.lengths = lengths

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator)
        groups = order.split(SORTED_BATCHES * self.batch_size)
        sorted_order = torch.cat([group[self.lengths[group].argsort(descending=True)] for group in groups])
        batches = sorted_order.split(self.batch_size)
        if self.drop_last and len(batches[-1]) < self.batch_size:
            batches = batches[:-1]
        for number in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[number].tolist()

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)


class ProgressBar(TrainerCallback):
    """A bar with steps, rate and time left where the output is a terminal, else one line when the training ends.

    The log has that line too, and the loss and the learning rate every few steps.
    """

    def __init__(self, label: str, console: Console) -> None:
        self.label = label
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=console,
            disable=not console.is_interactive,  # it would print a blank line
        )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.first, self.started = state.global_step, time.monotonic()
        self.examples = args.train_batch_size * args.gradient_accumulation_steps * args.world_size  # a step
        if state.is_world_process_zero:
            self.bar = self.progress.add_task(self.label, total=state.max_steps, loss="", rate="")
            self.progress.start()
        logger.info("%s: %d steps of %d examples", self.label, state.max_steps, self.examples)
        if self.first:
            logger.info("%s: continues after step %d", self.label, self.first)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            speed = self.progress.tasks[0].speed or 0.0
            self.progress.update(self.bar, completed=state.global_step, rate=f"{speed * self.examples:.0f} ex/s")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            logger.info("step %d loss %.4f lr %.2e", state.global_step, logs["loss"], logs["learning_rate"])
            if state.is_world_process_zero:
                self.progress.update(self.bar, loss=f"loss {logs['loss']:.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        steps, seconds = state.global_step - self.first, time.monotonic() - self.started
        rate = steps * self.examples / seconds
        line = f"{self.label}: {steps} steps in {seconds:.0f} s, {rate:.0f} examples a second"
        logger.info(line)
        if state.is_world_process_zero:
            self.progress.stop()
            if self.progress.disable:
                self.console.print(line)
