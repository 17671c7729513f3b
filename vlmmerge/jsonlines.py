"""JSON lines that people wrote: each row checked, all faults told at once with file, line and field.

Knows files and pydantic's models of a row. Does not know what a row is for.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from vlmmerge.errors import VlmMergeError
from vlmmerge.recipe.faults import fault_line, shown

MOST_SHOWN = 20  # faults; a file whose every line is wrong is wrong in one way

Row = TypeVar("Row", bound=BaseModel)
Fault = type[VlmMergeError]


def read_rows(
    file: Path,
    row: type[Row],
    error: Fault = VlmMergeError,
    check: Callable[[Row], Iterable[str]] = lambda row: (),
) -> list[tuple[int, Row]]:
    """Read a file of one JSON object a line; blank lines are passed over.

    Args:
        file: UTF-8 text.
        row: The model that each object must fit.
        error: What is raised.
        check: Further faults of a row that fits the model.

    Returns:
        The line's number, from 1, and its row, for each.

    Raises:
        error: The file cannot be read, has no rows, or has faults.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except OSError as fault:
        raise error(f"cannot read {file}: {fault.strerror}", hint="check its name") from None
    except UnicodeDecodeError as fault:
        raise error(f"{file} is not UTF-8: byte {fault.start}", hint="save it as UTF-8") from None
    rows: list[tuple[int, Row]] = []
    faults: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append((number, fitting := row.model_validate_json(line)))
            faults.extend(f"line {number}: {text}" for text in check(fitting))
        except ValidationError as fault:
            faults.extend(f"line {number}: {text}" for text in fault_texts(fault, row))
    if faults:
        raise_faults(file, faults, error)
    if not rows:
        raise error(f"{file} has no rows", hint="one JSON object a line")
    return rows


def raise_faults(file: Path, faults: list[str], error: Fault) -> None:
    """Raise all faults of a file as one error."""
    more = [f"... and {len(faults) - MOST_SHOWN} more"] if len(faults) > MOST_SHOWN else []
    number = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    raise error(f"{file}: {number}", details=[*faults[:MOST_SHOWN], *more], hint="mend the file")


def fault_texts(fault: ValidationError, row: type[BaseModel]) -> Iterator[str]:
    """What is wrong with a row, a line a fault."""
    for error in fault.errors():
        if error["type"] == "json_invalid":
            yield f"not JSON: {error['ctx']['error'].replace(' line 1 column ', ' character ')}"
        elif not error["loc"]:
            yield f"wanted a JSON object, found {shown(error['input'])}"
        else:
            yield fault_line(error, {(): row})
