"""jsonfile.py: no file of a checkpoint leads out of its folder, except into the hub's own cache of contents."""

import os
import shutil
from pathlib import Path

import pytest

from vlmmerge.checkpoint import open_checkpoint
from vlmmerge.errors import CheckpointError


def fault_of(folder: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert caught.value.message == f"{folder} holds files that cannot be its own"
    assert caught.value.hint == (
        "put the files themselves there, or give the folder where they are; what is no part of it, move away"
    )
    return caught.value


@pytest.fixture
def folder(parents: Path, tmp_path: Path) -> Path:
    return shutil.copytree(parents / "base", tmp_path / "model")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "extra.json"])
@pytest.mark.parametrize("is_relative", [True, False])
def test_a_link_out_of_the_folder_is_refused(folder: Path, name: str, is_relative: bool) -> None:
    (folder / name).touch()
    outside = (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(Path("..") / name if is_relative else outside)
    assert fault_of(folder).details == (f"{name}: a link to {outside}, outside the folder",)


def test_a_link_by_way_of_another_link_is_followed_to_its_end(folder: Path) -> None:
    outside = (folder / "config.json").rename(folder.parent / "config.json")
    (folder / "first").symlink_to(outside)
    (folder / "config.json").symlink_to("first")
    assert fault_of(folder).details == (f"config.json: a link to {outside}, outside the folder",)


def test_a_link_within_the_folder_is_fine_and_so_is_a_link_to_the_folder(folder: Path) -> None:
    shapes = open_checkpoint(folder).shapes
    (folder / "model.safetensors").rename(folder / "content")
    (folder / "model.safetensors").symlink_to("content")
    (folder.parent / "link").symlink_to(folder)
    assert open_checkpoint(folder.parent / "link").shapes == shapes


def test_the_hubs_cache_links_to_its_blobs_and_nowhere_else(folder: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--org--name" / "snapshots" / "0", tmp_path / "models--org--name" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    assert open_checkpoint(snapshot).shapes == open_checkpoint(folder).shapes
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(folder / "config.json")
    assert fault_of(snapshot).details == (f"config.json: a link to {folder / 'config.json'}, outside the folder",)


def test_links_that_end_nowhere_and_what_is_no_file_are_told_together(folder: Path) -> None:
    for name in ("a.json", "b.json", "c.json", "d.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "a.json").symlink_to("missing")
    (folder / "b.json").symlink_to("b.json")
    os.mkfifo(folder / "c.json")  # reading it would wait for ever
    (folder / "d.json").mkdir()
    assert fault_of(folder).details == (
        "a.json: cannot be opened: No such file or directory",
        "b.json: cannot be opened: a link to itself",
        "c.json: no regular file",
        "d.json: no regular file",
    )
