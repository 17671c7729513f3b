"""The rows of a bundled split: a parquet file beside the manifest that names its checksum."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets.manifest import Evalset
from vlmmerge.evalsets.split import Split

if TYPE_CHECKING:
    from datasets import Dataset


def read_bundled(evalset: Evalset, split: Split, name: str) -> "Dataset":
    """Read a split's file; `name` is how messages call the split.

    Raises:
        EvalsetError: The file is missing, or not the one that the manifest names.
    """
    import datasets  # slow to import: seconds

    file = evalset.folder / str(split.file)
    if not file.exists() or _sha256(file) != split.sha256:
        what = "is not the file that its manifest names" if file.exists() else "is missing"
        raise EvalsetError(f"{name}: {file} {what}", hint="restore the folder from the repository")
    datasets.disable_progress_bars()
    return datasets.Dataset.from_parquet(str(file), keep_in_memory=True)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
