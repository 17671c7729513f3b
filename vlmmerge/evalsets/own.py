"""A person's own set: a folder of pictures and a JSONL, or parquet, checked whole before anything is asked.

Knows files that people wrote. All faults are told at once, with file, line and field.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets.manifest import Evalset
from vlmmerge.evalsets.ownrow import ALL, OwnRow, make_sample
from vlmmerge.evalsets.pictures import decode, read_picture_file
from vlmmerge.evalsets.sample import Sample, digest
from vlmmerge.evalsets.split import Kind, Split
from vlmmerge.jsonlines import fault_texts, raise_faults, read_rows

FORM = (
    'a folder with pictures and one *.jsonl of rows {"image": "a.jpg", "question": "何？", "references": ["犬"]}, '
    "or parquet with the same columns"
)


@dataclass(frozen=True)
class OwnSet:
    """A set and its samples by split; `all` has every one."""

    evalset: Evalset
    samples: dict[str, list[Sample]]


def read_own(name: str) -> OwnSet:
    """Read a set by its path: a folder, a JSONL or a parquet file.

    Raises:
        EvalsetError: There is nothing of the kind, or anything in it is wrong.
    """
    files = _find_files(Path(name).expanduser())
    stamps = tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    return _read(name, stamps)


@lru_cache(maxsize=4)  # a run asks for a set's splits, checksum and samples; reading decodes every picture
def _read(name: str, stamps: tuple[tuple[str, int, int], ...]) -> OwnSet:
    files = [Path(file) for file, *_ in stamps]
    found: list[tuple[str | None, Sample]] = []
    for file in files:
        found += _read_jsonl(file) if file.suffix == ".jsonl" else _read_parquet(file)
    _check_ids(files, [sample.id for _, sample in found])
    samples = {ALL: [sample for _, sample in found]}
    for split in sorted({split for split, _ in found if split}):
        samples[split] = [sample for of, sample in found if of == split]
    splits = {key: _make_split(each, files[0]) for key, each in samples.items()}
    about = f"{len(found)} samples of your own"
    evalset = Evalset(files[0].parent, name, about, name, "your own", (), splits, is_own=True)
    return OwnSet(evalset, samples)


def _find_files(path: Path) -> list[Path]:
    """The one JSONL, or the parquet files."""
    if path.is_file() and path.suffix in (".jsonl", ".parquet"):
        return [path]
    if not path.is_dir():
        what = "is no JSONL and no parquet" if path.exists() else "is not there"
        raise EvalsetError(f"{path} {what}", hint=f"wanted {FORM}")
    usual, jsonl, parquet = path / "samples.jsonl", sorted(path.glob("*.jsonl")), sorted(path.rglob("*.parquet"))
    if usual.is_file() or len(jsonl) == 1:
        return [usual if usual.is_file() else jsonl[0]]
    if len(jsonl) > 1:
        names = ", ".join(file.name for file in jsonl)
        raise EvalsetError(f"{path} has {len(jsonl)} JSONL files: {names}", hint="name the one that is meant")
    if not parquet:
        raise EvalsetError(f"{path} has no JSONL and no parquet", hint=f"wanted {FORM}")
    return parquet


def _read_jsonl(file: Path) -> list[tuple[str | None, Sample]]:
    found: list[tuple[str | None, Sample]] = []

    def check(row: OwnRow) -> list[str]:
        images = [_read_picture(file.parent, name) for name in row.names]
        made = make_sample(row, tuple(image for image in images if isinstance(image, bytes)), len(found))
        faults = [image for image in images if isinstance(image, str)]
        faults += [] if isinstance(made, Sample) else made
        if isinstance(made, Sample):
            found.append((row.split, made))
        return faults

    read_rows(file, OwnRow, EvalsetError, check)
    return found


def _read_picture(folder: Path, name: str) -> bytes | str:
    """A picture's bytes, or what is wrong with it."""
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        return f"image: {name} leaves the folder {folder}"
    if not file.is_file():
        return f"image: no file {name} in {folder}"
    try:
        encoded = read_picture_file(file)
        decode(encoded, name)
    except EvalsetError as error:
        return f"image: {error.message}"
    return encoded


def _read_parquet(file: Path) -> list[tuple[str | None, Sample]]:
    import datasets

    try:
        table = datasets.Dataset.from_parquet(str(file), keep_in_memory=True)
    except Exception as error:  # Arrow's, the system's and its own errors
        raise EvalsetError(
            f"{file} is no parquet", details=[str(error).split("\n")[0]], hint=f"wanted {FORM}"
        ) from None
    for column in {"image", "images"} & set(table.column_names):
        feature = table.features[column]
        plain = datasets.Image(decode=False)
        if isinstance(feature, datasets.Image) or isinstance(getattr(feature, "feature", None), datasets.Image):
            table = table.cast_column(column, plain if isinstance(feature, datasets.Image) else datasets.List(plain))
    found: list[tuple[str | None, Sample]] = []
    faults: list[str] = []
    for number, values in enumerate(table):
        of_row = _parquet_row(values, number)
        if isinstance(of_row, list):
            faults += [f"row {number} (from 0): {text}" for text in of_row]
        else:
            found.append(of_row)
    if faults:
        raise_faults(file, faults, EvalsetError)
    if not found:
        raise EvalsetError(f"{file} has no rows", hint=f"wanted {FORM}")
    return found


def _parquet_row(values: dict[str, Any], number: int) -> tuple[str | None, Sample] | list[str]:
    """A row's split and sample, or its faults; its pictures are in it, so that their names are not looked at."""
    values = {key: value for key, value in values.items() if value is not None}
    images, faults = [], []
    for key in {"image", "images"} & values.keys():
        each = values[key] if isinstance(values[key], list) else [values[key]]
        encoded = [image.get("bytes") if isinstance(image, dict) else image for image in each]
        values[key] = "in the table" if key == "image" else ["in the table"] * len(each)
        images += [image for image in encoded if isinstance(image, bytes)]
        if len(images) < len(encoded):
            faults.append(f"{key}: wanted a picture's bytes")
    for image in images:
        try:
            decode(image, "picture")
        except EvalsetError as error:
            faults.append(f"image: {error.message}")
    try:
        row = OwnRow.model_validate(values)
    except ValidationError as error:
        return [*faults, *fault_texts(error, OwnRow)]
    sample = make_sample(row, tuple(images), number)
    if isinstance(sample, Sample) and not faults:
        return row.split, sample
    return [*faults, *([] if isinstance(sample, Sample) else sample)]


def _check_ids(files: list[Path], ids: list[str]) -> None:
    first: dict[str, int] = {}
    faults = [
        f'sample {number} (from 0): id: "{id}" is that of sample {first[id]} too'
        for number, id in enumerate(ids)
        if first.setdefault(id, number) != number
    ]
    if faults:
        raise_faults(files[0], faults, EvalsetError)


def _make_split(samples: list[Sample], file: Path) -> Split:
    return Split(
        references="references",
        language="ja",
        num_samples=len(samples),
        file=file.name,
        sha256=digest(samples),
        options="options" if all(sample.options for sample in samples) else None,
        stated_kind=_kind_of(samples),
    )


def _kind_of(samples: list[Sample]) -> Kind:
    if all(sample.options for sample in samples):
        return "choices"
    is_one_question = len(samples) > 1 and len({sample.question for sample in samples}) == 1
    return "captions" if is_one_question else "questions"
