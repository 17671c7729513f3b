"""apart.py: what the search sees is never held out, whatever it is called and however it was saved."""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from vlmmerge.apart import check_apart, check_pictures_apart
from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets import load
from vlmmerge.recipe.sections import Evalset, EvalsetChoice

if TYPE_CHECKING:
    from conftest import Cli

PHOTOS = EvalsetChoice(name="ja-photos", split="held_out")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A set of one's own: two held-out photographs saved smaller, one that is not held out."""
    held_out, search = load("ja-photos", "held_out", 2), load("ja-photos", "search", 1)
    rows = []
    for sample in [*held_out, *search]:
        with Image.open(io.BytesIO(sample.images[0])) as image:
            image.convert("RGB").reduce(2).save(tmp_path / f"{sample.id}.png")
        rows.append({"id": f"my-{sample.id}", "image": f"{sample.id}.png", "question": "何？", "answer": "花"})
    (tmp_path / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_held_out_pictures_saved_otherwise_are_found_in_an_own_set(own: Path) -> None:
    mine = EvalsetChoice(name=str(own), split="all")
    check_apart(Evalset(search=mine, held_out=PHOTOS))
    with pytest.raises(EvalsetError) as caught:
        check_pictures_apart(Evalset(search=mine, held_out=PHOTOS))
    names = f"{own}:all and ja-photos:held_out"
    assert caught.value.message == f"search and held-out data share 2 pictures, or have like ones: {names}"
    first = load("ja-photos", "held_out", 1)[0].id
    assert caught.value.details[0].startswith(f"my-{first} and {first}: ")
    assert caught.value.details[0].endswith(" of 255 bits differ")
    assert caught.value.hint == "leave these samples out of one of the two"


def test_an_own_set_with_no_held_out_picture_may_be_searched_on(own: Path) -> None:
    mine, scenes = EvalsetChoice(name=str(own), split="all"), EvalsetChoice(name="ja-scenes", split="held_out")
    check_pictures_apart(Evalset(search=mine, held_out=scenes))
    few = EvalsetChoice(name="ja-photos", split="search", samples=3)
    check_pictures_apart(Evalset(search=few, held_out=PHOTOS))


def test_finals_and_retention_are_looked_at_too(own: Path) -> None:
    mine, scenes = EvalsetChoice(name=str(own), split="all"), EvalsetChoice(name="ja-scenes", split="held_out")
    search = EvalsetChoice(name="ja-scenes", split="search", samples=3)
    for changes in ({"search": search, "finals": mine}, {"search": mine, "retention": PHOTOS, "held_out": scenes}):
        with pytest.raises(EvalsetError, match="share 2 pictures"):
            check_pictures_apart(Evalset(**({"held_out": PHOTOS} | changes)))


def test_the_same_split_by_another_name_is_refused() -> None:
    questions = EvalsetChoice(name="ja-scenes", split="held_out_questions")
    captions = EvalsetChoice(name="ja-scenes", split="held_out")
    with pytest.raises(EvalsetError) as caught:
        check_apart(Evalset(search=questions, held_out=captions))
    assert str(caught.value) == (
        "search and held-out data share their pictures: ja-scenes:held_out_questions and ja-scenes:held_out\n"
        "hint: hold out a split that the search never sees"
    )


def test_a_search_on_held_out_pictures_never_begins(cli: "Cli", recipe_file: Path, own: Path, tmp_path: Path) -> None:
    changes = [f"evalset.search={{name: {own}}}", "evalset.held_out={name: ja-photos, split: held_out}"]
    options = [option for change in changes for option in ("--set", change)]
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "run", "--set", "evalset.finals=null", *options)
    assert done.status == 1
    assert "error: search and held-out data share 2 pictures, or have like ones" in done.message, done.err
    assert not (tmp_path / "run" / "journal.jsonl").exists()
