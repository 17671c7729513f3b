"""jsonlines.py: every fault of a file is told at once, with its line and field."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from vlmmerge.errors import EvalsetError, ScoreError
from vlmmerge.jsonlines import MOST_SHOWN, read_rows


class Row(BaseModel):
    model_config = ConfigDict(strict=True)

    text: str = Field(description="text")
    numbers: tuple[int, ...] = ()


def write(folder: Path, *lines: str | bytes) -> Path:
    file = folder / "rows.jsonl"
    file.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return file


def test_rows_come_with_their_line_numbers_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    file = write(tmp_path, '\ufeff{"text": "赤", "numbers": [1, 2], "more": 1}', "", '{"text": "青"}\r', "  ")
    rows = [(number, row.text, row.numbers) for number, row in read_rows(file, Row)]
    assert rows == [(1, "赤", (1, 2)), (3, "青", ())]


def test_all_faults_are_told_with_line_and_field(tmp_path: Path) -> None:
    file = write(
        tmp_path, '{"text": 3}', '{"numbers": [1, "x"]}', "[1]", '{"text": "a"', '{"text": "\\ud800"}', '{"text": "a"}'
    )
    with pytest.raises(ScoreError) as caught:
        read_rows(file, Row, ScoreError)
    assert str(caught.value).splitlines() == [
        f"{file}: 6 faults",
        "  line 1: text: wanted text (put it in quotes if it only looks like something else), found 3",
        "  line 2: text: missing, wanted text",
        '  line 2: numbers[1]: wanted an integer, found "x"',
        "  line 3: wanted a JSON object, found [1]",
        "  line 4: not JSON: EOF while parsing an object at character 12",
        "  line 5: not JSON: unexpected end of hex escape at character 17",
        "hint: mend the file",
    ]


def test_of_many_faults_the_first_are_shown(tmp_path: Path) -> None:
    with pytest.raises(EvalsetError) as caught:
        read_rows(write(tmp_path, *["{}"] * (MOST_SHOWN + 5)), Row, EvalsetError)
    _, *faults, more, _ = str(caught.value).splitlines()
    assert len(faults) == MOST_SHOWN and more == "  ... and 5 more"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "{file} has no rows\nhint: one JSON object a line"),
        (b"\n \n", "{file} has no rows\nhint: one JSON object a line"),
        ('{"text": "赤"}'.encode("shift_jis"), "{file} is not UTF-8: byte 10\nhint: save it as UTF-8"),
        (None, "cannot read {file}: No such file or directory\nhint: check its name"),
    ],
)
def test_a_file_without_rows_is_told(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "rows.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(EvalsetError) as caught:
        read_rows(file, Row, EvalsetError)
    assert str(caught.value) == message.format(file=file)


def test_what_is_nested_too_deeply_is_a_fault_and_no_crash(tmp_path: Path) -> None:
    file = write(tmp_path, '{"text": "a", "x": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(EvalsetError, match="line 1: not JSON: recursion limit exceeded"):
        read_rows(file, Row, EvalsetError)
