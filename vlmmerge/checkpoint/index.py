"""The index of a sharded checkpoint: which file holds each tensor, and whether the files agree.

Knows the index's format. Does not know where the files come from.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from vlmmerge.checkpoint.header import TensorInfo
from vlmmerge.checkpoint.jsonfile import read_object_strictly
from vlmmerge.errors import CheckpointError

SHOWN = 6


def read_index(index: Path, there: Collection[str]) -> dict[str, str]:
    """Read which file holds each tensor.

    Args:
        index: The file.
        there: The names of all files that there are.

    Returns:
        A new dict; its values are plain names of files that are there.

    Raises:
        CheckpointError: No weight map, or it names a file which is missing or outside the folder.
    """
    found = read_object_strictly(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f"{index} is damaged: no weight map", hint="fetch the checkpoint again")
    names = {str(name): isinstance(name, str) and Path(name).name == name != ".." for name in found.values()}
    faults = [f"{name}: not a file name" for name, is_name in sorted(names.items()) if not is_name]
    faults += [f"{name}: no such file" for name, is_name in sorted(names.items()) if is_name and name not in there]
    if faults:
        raise CheckpointError(f"{index} names files that are not there", details=_some(faults), hint="fetch them again")
    return found


def gather(
    index: Path, weight_map: Mapping[str, str], headers: Mapping[str, dict[str, TensorInfo]]
) -> dict[str, TensorInfo]:
    """All tensors of the shards, each where the index says and nowhere else.

    Args:
        index: Named in messages.
        weight_map: For each tensor the name of its file.
        headers: For each of these files what it holds.

    Raises:
        CheckpointError: The index and the files do not agree.
    """
    faults = [f"`{key}` is not in {name}" for key, name in weight_map.items() if key not in headers[name]]
    for name, found in headers.items():
        for key in found:
            if (told := weight_map.get(key)) != name:
                faults.append(
                    f"`{key}` is in {name}, " + (f"and said to be in {told}" if told else "and not in the index")
                )
    if faults:
        hint = "fetch the checkpoint again; or save it anew with transformers' `save_pretrained`"
        raise CheckpointError(f"{index} does not tell what the files hold", details=_some(faults), hint=hint)
    return {key: headers[name][key] for name, found in headers.items() for key in found}


def _some(faults: list[str]) -> list[str]:
    more = len(faults) - SHOWN
    return faults[:SHOWN] + ([f"... and {more} more"] if more > 0 else [])
