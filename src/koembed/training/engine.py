"""One training run: any mixture of objectives on the sentence-transformers trainer, from one CPU to many GPUs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset, DatasetDict, Value
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.training_args import MultiDatasetBatchSamplers
from torch import Tensor, nn
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from koembed.adapters.bottleneck import sublayer_outputs
from koembed.config import Training
from koembed.models import backbone, input_rows, layer_count
from koembed.training.objectives import Objective

logger = logging.getLogger(__name__)

# Batches whose texts are sorted by length together: enough to pad little, few enough to stay random.
SORTED_BATCHES = 50


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

    Each batch holds examples of one objective; objectives take turns in proportion to their examples. Weights stay
    float32, the arithmetic is autocast to bf16 where the machine has it: AdamW's small updates would round away in
    bf16. No weight decay: it would shrink rows that receive no gradient.

    Args:
        directory: checkpoints are kept here; a run that was killed continues from the newest.
    """
    on_gpu = torch.cuda.is_available()
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(directory),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,
        max_grad_norm=settings.max_grad_norm,
        weight_decay=0.0,
        bf16=settings.bf16 and has_bf16(),
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        # Gathered negatives must have one shape on all processes.
        dataloader_drop_last=PartialState().num_processes > 1,
        batch_sampler=LengthGroupedBatchSampler,
        multi_dataset_batch_sampler=MultiDatasetBatchSamplers.PROPORTIONAL,
        prompts=model.prompts.get(model.default_prompt_name) if model.default_prompt_name else None,
        save_steps=settings.save_steps,
        save_total_limit=1,
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=DatasetDict({name: objective.dataset for name, objective in objectives.items()}),
        loss={name: objective.loss for name, objective in objectives.items()},
        callbacks=[ProgressBar(label, console)],
    )
    trainer.remove_callback(PrinterCallback)
    needs_dropout = any(objective.needs_dropout for objective in objectives.values())
    checkpoint = get_last_checkpoint(str(directory)) if directory.is_dir() else None
    whole_length = model.max_seq_length
    model.max_seq_length = min(settings.max_length, whole_length or settings.max_length)
    with forced_dropout(model, settings.dropout if needs_dropout else 0.0):
        trainer.train(resume_from_checkpoint=checkpoint)
    model.max_seq_length = whole_length
    model.eval()


class Trainer(SentenceTransformerTrainer):
    """The sentence-transformers trainer without its model card: its examples take minutes on long data sets."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None."""


def has_bf16() -> bool:
    """Whether this machine computes bf16 matrix products in hardware; in software they are slower than float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()


@contextmanager
def forced_dropout(model: SentenceTransformer, probability: float) -> Iterator[None]:
    """Drop sublayer outputs while training, on models that have no dropout of their own (Qwen3, Llama, Gemma).

    With probability 0, or on a model whose own dropout is on, nothing changes.
    """
    own = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
    hooks = []
    if probability and not own:

        def drop(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            return nn.functional.dropout(output, probability, training=module.training)

        for linear in sublayer_outputs(backbone(model), layer_count(backbone(model).config)):
            hooks.append(linear.register_forward_hook(drop))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def train_only(model: SentenceTransformer, what: str, first_new_row: int = 0) -> Any:
    """Unfreeze ``all``, the input ``embeddings``, or of these only the ``new_rows``, and freeze the rest.

    The rows before ``first_new_row`` then get zero gradients, and without weight decay AdamW leaves them bit for bit.

    Returns:
        a handle to ``remove()`` after training, or None.
    """
    model.requires_grad_(what == "all")
    weight = input_rows(model)
    weight.requires_grad_(True)
    if what != "new_rows":
        return None

    def keep_new(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[:first_new_row] = 0
        return gradient

    return weight.register_hook(keep_new)


class LengthGroupedBatchSampler(DefaultBatchSampler):
    """Random batches of texts of about one length, so that little is spent on padding.

    Indices are shuffled, cut into groups of 50 batches, sorted by length within each, and the batches shuffled again.
    """

    def __init__(self, dataset: Dataset, batch_size: int, drop_last: bool, **kwargs: Any) -> None:
        super().__init__(dataset, batch_size=batch_size, drop_last=drop_last, **kwargs)
        columns = [dataset[name] for name, kind in dataset.features.items() if kind == Value("string")]
        self.lengths = torch.tensor([max(map(len, row)) for row in zip(*columns, strict=True)])

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
    """A bar with steps, rate and time left on the terminal; the loss and the learning rate in the log."""

    def __init__(self, label: str, console: Console) -> None:
        self.label = label
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=console,
            transient=not console.is_terminal,
        )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.bar = self.progress.add_task(self.label, total=state.max_steps, loss="", rate="")
            self.progress.start()
        logger.info("%s: %d steps of %d examples", self.label, state.max_steps, args.train_batch_size)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            speed = self.progress.tasks[0].speed or 0.0
            self.progress.update(
                self.bar, completed=state.global_step, rate=f"{speed * args.train_batch_size:.0f} ex/s"
            )

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            logger.info("step %d loss %.4f lr %.2e", state.global_step, logs["loss"], logs["learning_rate"])
            if state.is_world_process_zero:
                self.progress.update(self.bar, loss=f"loss {logs['loss']:.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.progress.stop()
