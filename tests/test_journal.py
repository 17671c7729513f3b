"""journal.py: lines survive exactly, torn lines go, a run is held by one process, and another run is told apart."""

import json
import math
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vlmmerge import __version__
from vlmmerge.errors import RunError
from vlmmerge.journal import Journal, best, make_header, read_journal

HEADER = make_header({"search": {"seed": 0, "sigma": 1 / 6}, "blend": {"method": "ties"}, "parents": {}})
RECORDS = [
    {"kind": "candidate", "index": 0, "genome": [0.1, -0.0, 5e-324], "score": 0.1 + 0.2, "status": "ok"},
    {
        "kind": "candidate",
        "index": 1,
        "genome": [1 / 3, 1e300, 0.5],
        "score": None,
        "reason": "答えが空\r\n\u2028だった",
    },
    {"kind": "candidate", "index": 2, "genome": [0.0, 0.25, 0.5], "score": 1, "answers": ["猫です。", "lone \udc80"]},
]


def written(path: Path) -> Path:
    with Journal(path).open_new(HEADER) as journal:
        for record in RECORDS:
            journal.append(record)
    return path


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_records_come_back_bit_for_bit(tmp_path: Path) -> None:
    header, records = read_journal(written(tmp_path / "journal.jsonl"))
    assert header == HEADER
    assert records == RECORDS
    assert math.copysign(1, records[0]["genome"][1]) == -1


def test_each_record_is_one_line_of_readable_text_with_sorted_keys(tmp_path: Path) -> None:
    lines = written(tmp_path / "journal.jsonl").read_bytes().split(b"\n")
    assert len(lines) == 5
    assert lines[-1] == b""
    assert lines[1].startswith(b'{"genome": [0.1, -0.0, 5e-324], "index": 0, "kind"')
    assert "答えが空".encode() in lines[2]


def test_nan_and_infinity_are_written_as_null_and_seen_as_none_at_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl").open_new(HEADER) as journal:
        record = journal.append({"score": float("nan"), "nested": {"values": (1.0, float("-inf"))}})
    assert record == {"score": None, "nested": {"values": [1.0, None]}}
    assert read_journal(journal.path)[1] == journal.records == [record]


def test_a_resumed_journal_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = written(tmp_path / "journal.jsonl")
    with Journal(path).open_resume(HEADER) as journal:
        assert journal.header == HEADER
        assert journal.records == RECORDS
        journal.append({"index": 3})
    assert read_journal(path)[1] == [*RECORDS, {"index": 3}]


def test_a_last_line_torn_at_any_byte_is_dropped_and_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    whole = written(path).read_bytes()
    last = whole.rfind(b"\n", 0, -1) + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        assert read_journal(path)[1] == RECORDS[:-1]
        assert path.stat().st_size == end, "reading must not change the file"
        with Journal(path).open_resume(HEADER) as journal:
            assert journal.records == RECORDS[:-1]
            assert path.read_bytes() == whole[:last]
            journal.append(RECORDS[-1])
        assert path.read_bytes() == whole


def test_a_last_line_that_is_not_json_is_dropped_though_it_ends_with_a_newline(tmp_path: Path) -> None:
    path = written(tmp_path / "journal.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0\0\0\0\n")
    with Journal(path).open_resume(HEADER) as journal:
        assert journal.records == RECORDS
    assert path.read_bytes() == whole


def test_a_run_killed_inside_its_header_line_can_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path).open_new(HEADER):
        whole = path.read_bytes()
    for end in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with Journal(path).open_resume(HEADER) as journal:
            assert journal.records == []
        assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"dear diary", b"dear diary\n", b'{"score": 1}\n', b"[]\n[]\n"])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunError, match="not a journal of a run"):
        Journal(path).open_resume(HEADER)
    assert path.read_bytes() == content


def test_a_broken_line_in_the_middle_is_an_error_that_numbers_it(tmp_path: Path) -> None:
    path = written(tmp_path / "journal.jsonl")
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2][:10]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(RunError) as caught:
        Journal(path).open_resume(HEADER)
    assert str(caught.value) == (
        f"{path} is damaged: these lines are not JSON\n"
        "  line 3\n"
        "hint: something other than vlmmerge changed the file; restore it, or start again with another --run"
    )


def test_resuming_another_run_names_every_key_that_differs_and_changes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "journal.jsonl")
    before = path.read_bytes()
    fields = {"search": {"seed": 3, "sigma": 1 / 6}, "blend": {"method": "ties", "seed": 1}, "parents": {}}
    with pytest.raises(RunError) as caught:
        Journal(path).open_resume(make_header(fields))
    assert str(caught.value) == (
        f"{path} belongs to another run\n"
        "  blend.seed: null in the journal, 1 now\n"
        "  search.seed: 0 in the journal, 3 now\n"
        "hint: resume with what the run began with, or start a new run with another --run"
    )
    assert path.read_bytes() == before


def test_resuming_with_another_version_says_so(tmp_path: Path) -> None:
    path = written(tmp_path / "journal.jsonl")
    now = {**HEADER, "version": "9.9", "fingerprint": "another"}
    with pytest.raises(RunError, match=rf'version: "{__version__}" in the journal, "9\.9" now'):
        Journal(path).open_resume(now)


def test_a_new_run_never_overwrites_one_that_is_there(tmp_path: Path) -> None:
    path = written(tmp_path / "run" / "journal.jsonl")
    before = path.read_bytes()
    with pytest.raises(RunError) as caught:
        Journal(path).open_new(HEADER)
    assert str(caught.value) == (
        f"there is a run already in {path.parent}\nhint: go on with --resume, or choose another --run"
    )
    assert path.read_bytes() == before


def test_resuming_where_no_run_is_says_what_to_do(tmp_path: Path) -> None:
    for open_it in (
        lambda: Journal(tmp_path / "journal.jsonl").open_resume(HEADER),
        lambda: read_journal(tmp_path / "x"),
    ):
        with pytest.raises(RunError, match=r"there is no run in .*\nhint: start one without --resume, or check --run"):
            open_it()


def test_one_journal_is_held_by_one_process(tmp_path: Path) -> None:
    path = tmp_path / "run" / "journal.jsonl"
    with Journal(path).open_new(HEADER):
        for again in (Journal(path).open_new, Journal(path).open_resume):
            with pytest.raises(RunError) as caught:
                again(HEADER)
            assert str(caught.value) == (
                f"another process is running in {path.parent}\nhint: wait until it ends, or choose another --run"
            )
    Journal(path).open_resume(HEADER).close()


def test_a_killed_process_gives_up_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    program = (
        "import sys, time; from vlmmerge.journal import Journal\n"
        "journal = Journal(sys.argv[1]).open_new({'kind': 'run', 'fingerprint': 'f'}); print('open', flush=True)\n"
        "time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    header = {"kind": "run", "fingerprint": "f"}
    with pytest.raises(RunError, match="another process"):
        Journal(path).open_resume(header)
    child.kill()
    child.communicate()
    with Journal(path).open_resume(header) as journal:
        assert journal.header == header


def test_a_failed_opening_leaves_no_lock_behind(tmp_path: Path) -> None:
    path = written(tmp_path / "journal.jsonl")
    attempts = (lambda: Journal(path).open_new(HEADER), lambda: Journal(path).open_resume(make_header({})))
    failed = []
    for attempt in attempts:
        with pytest.raises(RunError) as caught:
            attempt()
        failed.append(caught)  # the errors' tracebacks keep the journals alive
    Journal(path).open_resume(HEADER).close()


def test_a_full_disk_is_an_error_and_the_journal_can_be_resumed(tmp_path: Path) -> None:
    path = written(tmp_path / "journal.jsonl")
    before = path.read_bytes()
    with Journal(path).open_resume(HEADER) as journal, file_size_limit(len(before) + 10):
        with pytest.raises(
            RunError, match=r"cannot write .*: File too large\nhint: make room, then go on with --resume"
        ):
            journal.append({"index": 3, "kind": "candidate"})
        assert journal.records == RECORDS
    assert len(path.read_bytes()) == len(before) + 10
    Journal(path).open_resume(HEADER).close()
    assert path.read_bytes() == before


def test_a_fingerprint_moves_with_every_field_and_not_with_their_order() -> None:
    fields = {"a": {"b": 1, "c": [1, 2]}, "d": "答え"}
    shuffled = {"d": "答え", "a": {"c": [1, 2], "b": 1}}
    fingerprint = make_header(fields)["fingerprint"]
    assert make_header(shuffled)["fingerprint"] == fingerprint
    for other in ({**fields, "d": "こたえ"}, {**fields, "a": {"b": 1, "c": [2, 1]}}, {**fields, "e": None}):
        assert make_header(other)["fingerprint"] != fingerprint
    assert json.loads(json.dumps(make_header(fields)))["fields"] == fields


def test_the_best_candidate_is_the_earliest_of_the_highest() -> None:
    records = [{"index": i, "score": score} for i, score in enumerate([None, -3.0, -1.0, None, -1.0, -2.0])]
    winner = best(records)
    assert winner is not None
    assert winner["index"] == 2
    assert best([{"index": 0, "score": None}]) is None
    assert best([]) is None
