"""The config of a model on the Hugging Face Hub, from this machine's cache or fetched."""

from __future__ import annotations

from pathlib import Path

from profiler.errors import ConfigError, EnvironmentUnfitError


def fetch_config(hub_id: str, *, revision: str | None) -> dict[str, object]:
    """Reads a repository's config.json; the cache answers for a repository it knows, without a question.

    Environment variables of huggingface_hub (`HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`) hold as they do for it.

    Raises:
        ConfigError: there is no such repository, revision or config, or it is no Hugging Face config.
        EnvironmentUnfitError: the Hub cannot be reached, or keeps the repository behind a licence.
    """
    from profiler.jobs.presets import read_config_file  # noqa: PLC0415 - few jobs need it

    found = find_config(hub_id, revision=revision)
    return read_config_file(_download(hub_id, revision=revision)) if found is None else found


def find_config(hub_id: str, *, revision: str | None) -> dict[str, object] | None:
    """Reads a repository's config.json from this machine's cache; None where it is not there.

    Raises:
        ConfigError: it is no Hugging Face config.
    """
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - most jobs name a preset

    from profiler.jobs.presets import read_config_file  # noqa: PLC0415 - few jobs need it

    cached = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    return read_config_file(Path(cached)) if isinstance(cached, str) else None


def _download(hub_id: str, *, revision: str | None) -> Path:
    from huggingface_hub import errors, hf_hub_download  # noqa: PLC0415 - as above

    shown = hub_id if revision is None else f"{hub_id} at revision {revision}"
    try:
        return Path(hf_hub_download(hub_id, "config.json", revision=revision))
    except errors.GatedRepoError:
        raise EnvironmentUnfitError(
            f"the Hub gives the config of {hub_id} only to those who accepted its licence",
            hint=f"accept it at https://huggingface.co/{hub_id}, then run `hf auth login`; or name a preset",
        ) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise ConfigError(
            f"the Hub has no model {shown}, or none that you may see",
            hint="check the spelling, or run `hf auth login` for a private one",
        ) from None
    except (errors.HfHubHTTPError, OSError) as error:  # which are the bases of every error of the Hub's
        if _is_remote_absence(error):
            raise ConfigError(
                f"{shown} has no config.json", hint="name a repository of transformers' format"
            ) from None
        raise EnvironmentUnfitError(
            f"the config of {hub_id} is not on this machine, and the Hub did not give it",
            hint="check the connection, or name a preset (`peakvram models`) or a directory",
        ) from error


def _is_remote_absence(error: Exception) -> bool:
    """Whether the Hub answered that there is no such file; offline, its absence here says nothing."""
    from huggingface_hub import errors  # noqa: PLC0415 - as above

    is_local = isinstance(error, errors.LocalEntryNotFoundError)
    return isinstance(error, errors.EntryNotFoundError) and not is_local
