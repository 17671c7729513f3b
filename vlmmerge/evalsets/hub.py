"""The rows of a split on the Hugging Face hub: fetched by the hub's own client when first read, and kept in its cache.

Knows the hub's client and `datasets`. Fetches only the files that hold the split, where its manifest names them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets.manifest import Evalset
from vlmmerge.evalsets.split import Split

if TYPE_CHECKING:
    from datasets import Dataset

PATIENCE = 30  # seconds without a word from the hub, before the cache is looked at


def read_hub(evalset: Evalset, split: Split) -> "Dataset":
    """Read a split from the cache, or fetch it.

    Raises:
        EvalsetError: It cannot be had, or its columns are not those that the manifest names.
    """
    import datasets

    folder = _fetch(evalset, split)
    datasets.disable_progress_bars()
    try:
        tables = [_read_table(folder, split, config) for config in split.configs or (None,)]
        table = datasets.concatenate_datasets(tables)
    except Exception as error:  # `datasets` raises its own, Arrow's and the system's errors
        details = [f"{type(error).__name__}: {_first_line(error)}"]
        hint = f"fetch it again: `{download_command(evalset, split)} --force-download`"
        raise EvalsetError(f"{evalset.name} cannot be read from {folder}", details=details, hint=hint) from None
    _check_columns(table, evalset, split)
    return table


def download_command(evalset: Evalset, split: Split) -> str:
    """The command that fetches a split ahead of its first use."""
    revision = f" --revision {evalset.revision}" if evalset.revision else ""
    files = "".join(f' --include "{pattern}"' for pattern in _patterns(split) or ())
    return f"hf download --repo-type dataset {evalset.hub}{revision}{files}"


def _patterns(split: Split) -> list[str] | None:
    return [split.files.format(config=config) for config in split.configs or ("",)] if split.files else None


def _fetch(evalset: Evalset, split: Split) -> Path:
    """The folder in the hub's cache that has the split's files; a pinned set that is there needs no network."""
    from huggingface_hub import HfApi, snapshot_download

    settings: dict[str, Any] = {"repo_type": "dataset", "allow_patterns": _patterns(split)}
    try:
        if evalset.revision and (found := _cached(evalset, settings)):
            return found
        # One request tells at once that there is no network, which fetching would find out by trying for half a minute.
        info = HfApi().dataset_info(str(evalset.hub), revision=evalset.revision, timeout=PATIENCE)
        return Path(snapshot_download(str(evalset.hub), revision=info.sha, **settings))
    except Exception as error:  # the hub's client raises its own, its HTTP library's and the system's errors
        if found := _cached(evalset, settings):
            return found
        what, hint = _reason(evalset, split, error)
        message = f"{evalset.name} is not here, and could not be fetched from the hub ({evalset.hub})"
        raise EvalsetError(message, details=[what], hint=hint) from None


def _cached(evalset: Evalset, settings: dict[str, Any]) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(str(evalset.hub), revision=evalset.revision, local_files_only=True, **settings)
    except LocalEntryNotFoundError:
        return None
    return Path(found)


def _read_table(folder: Path, split: Split, config: str | None) -> "Dataset":
    import datasets

    if not split.files:
        return datasets.load_dataset(str(folder), config, split=split.hub_split)
    files = sorted(map(str, folder.glob(split.files.format(config=config))))
    if not files:
        raise FileNotFoundError(f"no file {split.files.format(config=config)}")
    return datasets.load_dataset("parquet", data_files={split.hub_split: files}, split=split.hub_split)


def _check_columns(table: "Dataset", evalset: Evalset, split: Split) -> None:
    wanted = split.columns | (set() if split.question or _holds_questions(table, split) else {split.question_column})
    if missing := sorted(wanted - set(table.column_names)):
        raise EvalsetError(
            f"{evalset.name}: no column {', '.join(missing)} in {evalset.hub}, split {split.hub_split}",
            details=[f"found {', '.join(table.column_names)}"],
            hint="it has changed since its manifest was written",
        )


def _holds_questions(table: "Dataset", split: Split) -> bool:
    """Whether the references are lists of structs: of questions with their answers."""
    feature: Any = table.features.get(split.references)
    return isinstance(getattr(feature, "feature", None), dict)


def _reason(evalset: Evalset, split: Split, error: Exception) -> tuple[str, str]:
    """What is the matter, and what to do."""
    from huggingface_hub import constants, errors

    page, command = f"https://huggingface.co/datasets/{evalset.hub}", download_command(evalset, split)
    if isinstance(error, errors.GatedRepoError):
        return "it is gated, and your login has no access", f"ask for access on {page}, then run `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        what = f"the hub has no revision {evalset.revision} of it"
        return what, f"see {page} for its revisions, and `revision` in {evalset.folder / 'manifest.json'}"
    if isinstance(error, errors.RepositoryNotFoundError):
        what = "the hub has no such dataset, or a private one"
        return what, f"check `hub` in {evalset.folder / 'manifest.json'}; for a private one run `hf auth login`"
    gated = f"; it is gated: ask for access on {page} and run `hf auth login` before" if evalset.is_gated else ""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set", f"unset it, or fetch the set first: `{command}`{gated}"
    return _first_line(error), f"check the network, or fetch the set first, where there is one: `{command}`{gated}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
