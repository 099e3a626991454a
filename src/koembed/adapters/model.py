"""A sentence-transformers Transformer module with adapters inside: add, scale, select, save, load."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.transformer import Transformer
from torch import nn

from koembed.adapters.bottleneck import Bottleneck
from koembed.adapters.fusion import Fusion
from koembed.adapters.invertible import Coupling
from koembed.adapters.sites import Composition, EmbeddingSite, Site
from koembed.adapters.structure import sublayers
from koembed.errors import InputError
from koembed.models import device, layer_count

FOLDER = "adapters"  # not the root: PEFT claims any adapter_config.json there

ROLES = ("query", "document")  # the tasks that encode_query and encode_document name


@dataclass
class AdapterSpec:
    """One adapter: the same name and shape at every site.

    Attributes:
        name: unique within the model.
        size: bottleneck width.
        activation: "gelu" or "identity".
        form: "sequential" (after each sublayer) or "parallel" (beside it).
        invertible: also an invertible adapter on the input embeddings.
        fuses: task adapters whose outputs it weighs, in place of a bottleneck of its own.
        task: True for an adapter that takes turns with the other tasks; False for one that always runs.
        scale: strength at inference, chosen by the gate; 0 leaves the model as it was without the adapter.
    """

    name: str
    size: int
    activation: str = "identity"
    form: str = "sequential"
    invertible: bool = False
    fuses: list[str] = field(default_factory=list)
    task: bool = False
    scale: float = 1.0


class AdaptedTransformer(Transformer):
    """A Transformer with adapters at its sublayers, composed in the order they were added.

    ``model.encode(texts, task="retrieval")`` selects a task adapter; without ``task`` the first one runs. With
    ``encode_query`` and ``encode_document`` the one named retrieval does, if there is one.
    The composition (language below, task above) follows MAD-X, Pfeiffer et al. 2020.
    """

    forward_kwargs: set[str] = {"task"}  # noqa: RUF012  (declared so by sentence-transformers)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.specs: dict[str, AdapterSpec] = {}
        self.composition = Composition()
        places = sublayers(self.model, layer_count(self.config))
        self.biased = all(place.exit.bias is not None for place in places)
        self.sites = nn.ModuleList([*(Site(self.composition) for _ in places), EmbeddingSite(self.composition)])
        for place, site in zip(places, self.sublayer_sites, strict=True):
            place.entry.register_forward_pre_hook(site.before)
            place.exit.register_forward_hook(site.after)
        rows = self.model.get_input_embeddings().weight
        for module in self.model.modules():  # of T5, the module that runs is not the one that it names
            if isinstance(module, nn.Embedding) and module.weight is rows:
                module.register_forward_hook(self._embedding_site().after)

    @property
    def sublayer_sites(self) -> list[Site]:
        """Attention's and feed-forward's of every layer, in order."""
        return cast("list[Site]", list(self.sites)[:-1])

    def _embedding_site(self) -> EmbeddingSite:
        return cast(EmbeddingSite, self.sites[-1])

    def add_adapter(self, spec: AdapterSpec) -> None:
        """Add an adapter above those there are; the model computes exactly what it did before.

        A fusion of trained tasks is the exception: selected, it starts as their mean.

        Raises:
            InputError: it fuses a task that is not there, or one with an invertible adapter.
        """
        if spec.name in self.specs:
            raise ValueError(f"adapter {spec.name} exists already")
        self._check_fused(spec)
        hidden = self.config.get_text_config().hidden_size
        for site in self.sublayer_sites:
            adapter: nn.Module
            if spec.fuses:
                adapter = Fusion(hidden, spec.size, spec.fuses)
            else:
                parallel = spec.form == "parallel"
                adapter = Bottleneck(hidden, spec.size, spec.activation, parallel, self.biased)
            site.adapters[spec.name] = adapter.to(self.model.device)
        if spec.invertible:
            coupling = Coupling(hidden, spec.size, spec.activation)
            self._embedding_site().adapters[spec.name] = coupling.to(self.model.device)
        self.specs[spec.name] = replace(spec)
        self.set_scale(spec.name, spec.scale)
        self.select(spec.name if spec.task else None)

    def _check_fused(self, spec: AdapterSpec) -> None:
        for task in spec.fuses:
            if task not in self.tasks:
                known = ", ".join(self.tasks) or "no task adapters"
                raise InputError(f"task {spec.name} fuses {task}: this model has {known}; put it after those it fuses")
            if spec.invertible or self.specs[task].invertible:
                raise InputError(f"task {spec.name} fuses {task}: a fusion mixes sublayers only; set invertible: false")

    def set_scale(self, name: str, scale: float) -> None:
        """Strength of an adapter, at once and when saved."""
        self.specs[name].scale = scale
        self.composition.scale[name] = scale

    @property
    def tasks(self) -> list[str]:
        """Names of the task adapters; the first is the default."""
        return [name for name, spec in self.specs.items() if spec.task]

    def select(self, task: str | None = None) -> None:
        """Choose the task adapter that runs above the others (None: the first).

        Raises:
            InputError: there is no such task.
        """
        task = task or next(iter(self.tasks), None)
        if task is not None and task not in self.tasks:
            raise InputError(f"task {task}: this model has {', '.join(self.tasks) or 'no task adapters'}")
        self.composition.active = [name for name, spec in self.specs.items() if not spec.task or name == task]

    def freeze_except(self, name: str) -> None:
        """Let one adapter train and nothing else of this module."""
        self.requires_grad_(False)
        for site in self.sublayer_sites:
            site.adapters[name].requires_grad_(True)
        if self.specs[name].invertible:
            self._embedding_site().adapters[name].requires_grad_(True)

    def forward(self, features: dict[str, Any], task: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """As Transformer.forward, with ``task`` for this call only."""
        if task in ROLES and task not in self.tasks:
            task = "retrieval" if "retrieval" in self.tasks else None
        if task is None:
            return super().forward(features, **kwargs)
        before = self.composition.active
        self.select(task)
        try:
            return super().forward(features, **kwargs)
        finally:
            self.composition.active = before

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """The base's own files, and beside them ``adapters/``: weights (safetensors) and their description."""
        super().save(output_path, *args, **kwargs)
        self.save_adapters(Path(output_path) / FOLDER)

    def save_adapters(self, folder: Path) -> None:
        """Only the adapters: ``adapters.safetensors`` and ``adapter_config.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.sites.state_dict(), folder / "adapters.safetensors")
        config = {**self._shape(), "adapters": [asdict(spec) for spec in self.specs.values()]}
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")

    def load_adapters(self, folder: Path) -> None:
        """Add all adapters of a folder that ``save_adapters`` wrote, above those there are.

        Raises:
            InputError: the folder has none, or they were made for a model of another shape.
        """
        try:
            config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            weights = load_file(folder / "adapters.safetensors")
        except FileNotFoundError as error:
            raise InputError(f"adapters {folder}: {error.strerror}; name a folder that was saved with them") from error
        for key, value in self._shape().items():
            if config[key] != value:
                raise InputError(f"adapters {folder}: made for {key} {config[key]}, this model has {value}")
        for spec in config["adapters"]:
            self.add_adapter(AdapterSpec(**spec))
        self.sites.load_state_dict({**self.sites.state_dict(), **weights})
        self.select()

    def _shape(self) -> dict[str, int]:
        return {"hidden_size": self.config.get_text_config().hidden_size, "sites": len(self.sublayer_sites)}

    @classmethod
    def load(cls, model_name_or_path: str, **kwargs: Any) -> AdaptedTransformer:  # type: ignore[override]
        """Load from a directory or a hub id; a plain model gets no adapters yet."""
        module: AdaptedTransformer = super().load(model_name_or_path, **kwargs)  # type: ignore[assignment]
        where = {key: kwargs.get(key) for key in ("token", "cache_folder", "revision")}
        folder = cls.load_dir_path(
            model_name_or_path, subfolder=FOLDER, local_files_only=bool(kwargs.get("local_files_only")), **where
        )
        if folder is not None and Path(folder).is_dir():
            module.load_adapters(Path(folder))
        return module


def has_task(model: SentenceTransformer, name: str) -> bool:
    """Whether a model has a task adapter of this name."""
    return isinstance(model[0], AdaptedTransformer) and name in model[0].tasks


def adapted(path: Path) -> SentenceTransformer:
    """Open a saved model with an ``AdaptedTransformer`` in place of its Transformer; its adapters, if any, are kept."""
    return opened(path, AdaptedTransformer)


def opened(path: Path, kind: type[Transformer]) -> SentenceTransformer:
    """Open a saved model with its first module as of one kind; everything else as it was saved."""
    model = SentenceTransformer(str(path), device=device(), trust_remote_code=True)
    model[0] = kind.load(str(path)).to(model.device)
    return model
