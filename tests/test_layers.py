"""Data flows one way, and so do imports: each package uses only those before it."""

import ast
from pathlib import Path

import pytest

import koembed

SOURCE = Path(koembed.__file__).parent
MODULES = sorted(set(SOURCE.rglob("*.py")) - {SOURCE / "__init__.py"})
FOUNDATION = ["errors", "hub", "storage", "config", "models", "metrics", "processes"]
PACKAGES = ["corpus", "vocab", "adapters", "training", "evaluation", "report", "export"]
LAYERS = [*FOUNDATION, *PACKAGES, "pipeline", "plan", "tune", "cli"]


def layer(module: str) -> str:
    """``koembed.vocab.bpe`` -> ``vocab``"""
    return module.removeprefix("koembed.").partition(".")[0]


def imported(path: Path) -> set[str]:
    """The layers that a module imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom) and node.module == "koembed":
            found.update(names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("koembed."):
            found.add(layer(node.module or ""))
        elif isinstance(node, ast.Import):
            found.update(layer(name) for name in names if name.startswith("koembed."))
    return found - {"__version__"}


def test_every_module_has_its_layer() -> None:
    assert {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in MODULES} == set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_only_from_layers_before(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    later = {name for name in imported(path) if LAYERS.index(name) > LAYERS.index(own)}
    assert not later, f"{own} comes before {later}"
