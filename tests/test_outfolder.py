"""outfolder.py: a folder is what it was or what it was to become, whatever happens in between."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlmmerge import outfolder
from vlmmerge.errors import RunError
from vlmmerge.outfolder import written_whole

ROOT = Path(__file__).parents[1]
MARKER = "marker.json"


def write(out: Path, text: str) -> None:
    with written_whole(out, MARKER, 100) as folder:
        (folder / MARKER).write_text(text)
        (folder / "more").mkdir()
        (folder / "more" / "data").write_text(text)


def texts(out: Path) -> set[str]:
    return {path.read_text() for path in out.rglob("*") if path.is_file()}


@pytest.fixture(params=["swapped in one step", "where folders cannot be swapped"])
def out(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "where folders cannot be swapped":  # no such filesystem is at hand
        monkeypatch.setattr(outfolder, "_swap", lambda one, other: False)
    return tmp_path / "out"


def test_a_folder_is_made_with_its_parents_filled_and_replaced_with_nothing_left_beside_it(out: Path) -> None:
    nested = out / "deep" / "er"
    write(nested, "one")
    assert texts(nested) == {"one"}
    write(nested, "two")
    assert texts(nested) == {"two"} and os.listdir(nested.parent) == ["er"]


def test_a_link_to_a_folder_stays_a_link(out: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "one")
    out.symlink_to("elsewhere")
    write(out, "two")
    assert out.is_symlink() and texts(tmp_path / "elsewhere") == {"two"}


def test_an_error_leaves_what_was_there_and_nothing_beside_it(out: Path) -> None:
    def fail() -> None:
        with written_whole(out, MARKER, 100) as folder:
            (folder / MARKER).write_text("half")
            raise KeyboardInterrupt

    for there in ([], ["out"]):
        with pytest.raises(KeyboardInterrupt):
            fail()
        assert os.listdir(out.parent) == there
        write(out, "one")
    assert texts(out) == {"one"}


def test_what_a_killed_process_left_is_cleared_away(out: Path) -> None:
    write(out, "one")
    for name in (".out.part", ".out.old"):
        (out.parent / name / "sub").mkdir(parents=True)
        (out.parent / name / "sub" / "file").write_text("half")
        (out.parent / name / "file").write_text("half")
    write(out, "two")
    assert texts(out) == {"two"} and os.listdir(out.parent) == ["out"]


def test_what_was_moved_aside_by_a_killed_process_comes_back_even_if_the_next_one_fails(out: Path) -> None:
    write(out, "one")
    out.rename(out.with_name(".out.old"))
    (out.parent / ".out.part").mkdir()
    with pytest.raises(RunError, match="too little room"), written_whole(out, MARKER, 2**60):
        pass
    assert texts(out) == {"one"} and os.listdir(out.parent) == ["out"]


def test_too_little_disk_is_told_before_anything_is_written(out: Path) -> None:
    with pytest.raises(RunError) as caught, written_whole(out, MARKER, 2**60):
        raise AssertionError("begun")
    message, hint = str(caught.value).splitlines()
    assert message.startswith(f"too little room for {out}: 1,073,741,824.00 GiB will be written, ")
    assert message.endswith(" GiB are free")
    assert hint == "hint: make room, or choose another --out"
    assert os.listdir(out.parent) == []


# Sets a limit beyond which no file can grow: writing then fails as on a full disk.
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from vlmmerge.errors import RunError
from vlmmerge.outfolder import written_whole

resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    with written_whole(Path(sys.argv[1]), "marker.json", 100) as folder:
        (folder / "marker.json").write_bytes(bytes(5_000))
        (folder / "big").write_bytes(bytes(20_000))
except RunError as error:
    print(error)
"""


def test_a_disk_that_fills_up_while_writing_is_told_and_leaves_what_was_there(out: Path) -> None:
    write(out, "one")
    command = [sys.executable, "-c", FULL_DISK, str(out)]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.stdout == f"cannot write {out}: File too large\nhint: make room, or choose another --out\n", done.stderr
    assert texts(out) == {"one"} and os.listdir(out.parent) == ["out"]


# Holds the folder until its input ends.
HOLD = """
import sys
from pathlib import Path
from vlmmerge.outfolder import written_whole

with written_whole(Path(sys.argv[1]), "marker.json", 100) as folder:
    (folder / "marker.json").write_text("theirs")
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_write_one_folder(out: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(out)]
    other = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout and other.stdout.readline() == "writing\n"
    with pytest.raises(RunError) as caught:
        write(out, "ours")
    assert str(caught.value) == (f"another process is writing {out}\nhint: wait until it ends, or choose another --out")
    other.communicate()
    assert other.returncode == 0 and texts(out) == {"theirs"} and os.listdir(out.parent) == ["out"]
    write(out, "ours")
    assert texts(out) == {"ours"}
