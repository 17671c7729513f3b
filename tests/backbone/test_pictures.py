"""A folder of unlabelled pictures."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from vlmmerge.backbone.pictures import find_pictures, read_square
from vlmmerge.errors import VlmMergeError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for number in range(20):
        place = tmp_path / "deep" / "er" if number % 2 else tmp_path
        Image.new("RGB", (12, 8), (number, 2 * number, 3 * number)).save(place / f"{number}.png")
    return tmp_path


def test_pictures_are_found_in_inner_folders_and_every_tenth_is_held_out(folder: Path) -> None:
    found = find_pictures(folder, most=100)
    assert (len(found.train), len(found.held_out), found.notes) == (18, 2, [])
    assert not set(found.train) & set(found.held_out)


def test_which_are_held_out_depends_on_contents_alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("renamed")
    for number, file in enumerate(sorted(folder.rglob("*.png"), reverse=True)):
        shutil.copyfile(file, other / f"picture-{number}.png")
    one, two = find_pictures(folder, 15), find_pictures(other, 15)
    assert [file.read_bytes() for file in one.held_out] == [file.read_bytes() for file in two.held_out]
    assert len(one.train) + len(one.held_out) == 15


def test_unreadable_and_repeated_pictures_are_skipped_counted_and_named(folder: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:40])
    (folder / "notes.txt").write_text("not looked at")
    shutil.copyfile(folder / "0.png", folder / "again.png")
    found = find_pictures(folder, most=100)
    assert len(found.train) + len(found.held_out) == 20
    skipped, repeated = found.notes
    assert skipped.startswith("2 pictures skipped: ") and "broken.jpg" in skipped and "torn.png" in skipped
    assert repeated == "1 skipped: the same bytes as another picture"


def test_too_few_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VlmMergeError) as caught:
        find_pictures(tmp_path, 10)
    assert f"too few pictures in {tmp_path}: none\nhint: give a folder with hundreds of pictures" in str(caught.value)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(VlmMergeError, match=r"too few pictures in .*: 1 with a picture's name, 0 that can be read"):
        find_pictures(tmp_path, 10)
    with pytest.raises(VlmMergeError, match=r"no such folder: .*nowhere"):
        find_pictures(tmp_path / "nowhere", 10)


def test_the_middle_square_is_looked_at(tmp_path: Path) -> None:
    picture = Image.new("RGB", (30, 10), "red")
    picture.paste("blue", (10, 0, 20, 10))
    picture.save(tmp_path / "wide.png")
    seen = read_square(tmp_path / "wide.png")
    assert seen.size == (10, 10) and seen.getcolors() == [(100, (0, 0, 255))]
