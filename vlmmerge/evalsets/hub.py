"""The rows of a split on the Hugging Face hub, which `datasets` fetches when they are first read, and then keeps."""

from collections.abc import Iterable
from typing import Any

from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets.manifest import Evalset, Split
from vlmmerge.evalsets.rows import Row


def hub_rows(evalset: Evalset, split: Split) -> Iterable[Row]:
    """Fetch a split, or find it in the cache.

    Raises:
        EvalsetError: It cannot be fetched, or its columns are not those that the manifest names.
    """
    rows = _fetch(evalset, split)
    wanted = {"image", split.references, *([split.id] if split.id else [])}
    if missing := sorted(wanted - set(rows.column_names)):
        raise EvalsetError(
            f"{evalset.name}: no column {', '.join(missing)} in {evalset.hub}, split {split.hub_split}",
            details=[f"found {', '.join(rows.column_names)}"],
            hint="it has changed since its manifest was written",
        )
    return rows


def _fetch(evalset: Evalset, split: Split) -> Any:
    import datasets

    try:
        rows = datasets.load_dataset(evalset.hub, split=split.hub_split, revision=evalset.revision)
        return rows.cast_column("image", datasets.Image(decode=False)) if "image" in rows.column_names else rows
    except Exception as error:  # `datasets` raises its own, the hub's, the network's and the system's errors
        reason = next(iter(str(error).strip().splitlines()), "")
        raise EvalsetError(
            f"{evalset.name} cannot be read from the hub ({evalset.hub}, split {split.hub_split})",
            details=[f"{type(error).__name__}: {reason}"],
            hint="its first use needs the network, and a login (`hf auth login`) if it is gated; then it is kept",
        ) from None
