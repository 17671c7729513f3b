"""own.py: a person's own pictures and questions, as files; everything that can be wrong with them is told at once."""

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import pytest
from PIL import Image

from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets import checksum, describe, find_split, load, origin
from vlmmerge.evalsets.own import FORM
from vlmmerge.recipe import fingerprint_fields, load_recipe

if TYPE_CHECKING:
    from conftest import Cli


def write_picture(file: Path, colour: str = "red") -> None:
    Image.new("RGB", (8, 6), colour).save(file)


def row(**changes: Any) -> dict[str, Any]:
    return {"image": "a.png", "question": "何？", "references": ["犬"]} | changes


def write(folder: Path, *rows: dict[str, Any] | str, name: str = "samples.jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    lines = [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in rows]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for number, picture in enumerate(("a.png", "b.png")):
        if not (folder / picture).exists():
            write_picture(folder / picture, ("red", "blue")[number])
    return folder


def faults_of(folder: Path) -> tuple[str, ...]:
    with pytest.raises(EvalsetError) as caught:
        load(str(folder), "all")
    assert caught.value.hint
    return caught.value.details


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return write(
        tmp_path / "mine",
        row(id="one", facts=["犬"], split="search"),
        row(images=["a.png", "b.png"], image=None, references=["猫", "ねこ"], split="held_out") | {"answer": None},
        row(options=["甲", "乙"], references=["乙"], split="held_out"),
        row(options=["甲", "乙"], references=None, answer="A"),
    )


def test_a_folder_of_pictures_and_a_jsonl_is_a_set(mine: Path) -> None:
    first, several, choice, letter = load(str(mine), "all")
    assert (first.id, first.question, first.references, first.facts) == ("one", "何？", ("犬",), ("犬",))
    assert first.images == ((mine / "a.png").read_bytes(),)
    assert (several.id, len(several.images), several.references) == ("1", 2, ("猫", "ねこ"))
    assert choice.question == "何？\nA. 甲\nB. 乙\n選択肢の記号で答えてください。"
    assert (choice.references, letter.references) == (("B", "乙"), ("A", "甲"))
    assert load(str(mine / "samples.jsonl"), "all", 2) == [first, several]


def test_its_splits_are_those_that_its_rows_name_and_all(mine: Path) -> None:
    assert load(str(mine), "search") == load(str(mine), "all")[:1]
    assert [sample.id for sample in load(str(mine), "held_out")] == ["1", "2"]
    evalset, split = find_split(str(mine), "all")
    assert (list(evalset.splits), split.kind, split.language) == (["all", "held_out", "search"], "questions", "ja")
    described = describe(str(mine))[str(mine)]
    assert (described["where"], described["splits"]["search"]["num_samples"]) == ("own", 1)
    with pytest.raises(EvalsetError) as caught:
        load(str(mine), "test")
    assert caught.value.message == f'no split "test" in {mine}; there are all, held_out, search'


def test_its_kind_follows_from_its_rows(tmp_path: Path) -> None:
    captions = write(tmp_path / "captions", row(question="説明して。"), row(question="説明して。", image="b.png"))
    assert find_split(str(captions), "all")[1].kind == "captions"
    choices = write(tmp_path / "choices", row(options=["犬", "猫"]), row(options=["犬", "猫"], question="どれ？"))
    assert find_split(str(choices), "all")[1].kind == "choices"


def test_its_checksum_is_of_its_content(mine: Path, tmp_path: Path) -> None:
    before = checksum(str(mine), "all")
    assert before != checksum(str(mine), "search") and origin(str(mine), "all") == before
    copy = write(tmp_path / "copy", *(mine / "samples.jsonl").read_text(encoding="utf-8").splitlines(), name="x.jsonl")
    assert checksum(str(copy), "all") == before
    write(copy, row(), name="x.jsonl")
    assert checksum(str(copy), "all") != before


def test_parquet_with_the_same_columns_is_the_same_set(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", row(id="x"), row(image="b.png", references=["猫"], split="search"))
    encoded = [{"bytes": (folder / name).read_bytes(), "path": None} for name in ("a.png", "b.png")]
    texts = [{"id": "x", "references": ["犬"], "split": None}, {"id": None, "references": ["猫"], "split": "search"}]
    rows = [{"image": image, "question": "何？", **text} for image, text in zip(encoded, texts, strict=True)]
    table = datasets.Dataset.from_list(rows)
    table.cast_column("image", datasets.Image()).to_parquet(tmp_path / "pictures.parquet")
    table.to_parquet(tmp_path / "structs.parquet")
    whole = load(str(folder), "all")
    for name in ("pictures", "structs"):
        assert load(str(tmp_path / f"{name}.parquet"), "all") == whole
    several = [{"images": encoded, "question": "何？", "answer": "犬"}]
    (tmp_path / "folder").mkdir()
    datasets.Dataset.from_list(several).cast_column("images", datasets.List(datasets.Image())).to_parquet(
        tmp_path / "folder" / "x.parquet"
    )
    (sample,) = load(str(tmp_path / "folder"), "all")
    assert len(sample.images) == 2 and sample.references == ("犬",)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"image": 3}, "image: wanted text that is not empty, found 3"),
        ({"image": "c.png"}, "image: no file c.png in FOLDER"),
        ({"image": "../a.png"}, "image: ../a.png leaves the folder FOLDER"),
        ({"image": "/etc/hostname"}, "image: /etc/hostname leaves the folder FOLDER"),
        ({"image": "samples.jsonl"}, "image: samples.jsonl cannot be read: no kind of picture that is read here"),
        ({"images": ["a.png"]}, "image: wanted image or images, found both"),
        ({"image": None}, "image: wanted image or images, found neither"),
        ({"references": []}, "references: wanted a list of one or more texts that are not empty, found []"),
        (
            {"references": ["犬", " "]},
            'references: wanted a list of one or more texts that are not empty, found ["犬", " "]',
        ),
        ({"references": "犬"}, 'references: wanted a list of one or more texts that are not empty, found "犬"'),
        ({"references": None}, "references: wanted references or answer, found neither"),
        ({"answer": "犬"}, "references: wanted references or answer, found both"),
        ({"question": ""}, 'question: wanted text that is not empty, found ""'),
        ({"options": ["甲"]}, 'options: wanted a list of 2 to 26 texts, found ["甲"]'),
        ({"options": ["甲", "乙"]}, 'references: "犬" is no option and none of the letters AB'),
        ({"facts": "犬"}, 'facts: wanted a list of texts, found "犬"'),
        ({"split": "all"}, 'split: wanted a name of the letters A-Z a-z 0-9 _ . - and not "all", found "all"'),
        ({"id": 1.5}, "id: wanted text or an integer, found 1.5"),
        ({"referense": ["犬"]}, 'referense: unknown key (did you mean "references"?)'),
    ],
)  # fmt: skip
def test_a_wrong_field_is_told_with_file_line_and_field(changes: dict[str, Any], fault: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", row(), {key: value for key, value in row(**changes).items() if value is not None})
    with pytest.raises(EvalsetError) as caught:
        load(str(folder), "all")
    assert caught.value.message == f"{folder / 'samples.jsonl'}: 1 fault"
    assert caught.value.details == (f"line 2: {fault.replace('FOLDER', str(folder))}",)


def test_a_missing_question_and_a_line_that_is_no_json_are_told_together(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", {"image": "c.png", "answer": "犬"}, "{", "[]", row(image="c.png"))
    faults = faults_of(folder)
    assert faults[0] == "line 1: question: missing, wanted what is asked, as text"
    assert faults[1].startswith("line 2: not JSON: EOF while parsing an object at")
    assert faults[2] == "line 3: wanted a JSON object, found []"
    assert faults[3] == f"line 4: image: no file c.png in {folder}"


def test_of_many_faults_twenty_are_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", *[row(image="c.png")] * 25)
    faults = faults_of(folder)
    assert len(faults) == 21 and faults[-1] == "... and 5 more"


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    write_picture(tmp_path / "outside.png")
    folder = write(tmp_path / "mine", row(image="link.png"))
    os.symlink(tmp_path / "outside.png", folder / "link.png")
    assert faults_of(folder) == (f"line 1: image: link.png leaves the folder {folder}",)


def test_a_picture_that_ends_too_soon_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", row())
    encoded = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(encoded, "jpeg")
    (folder / "a.png").write_bytes(encoded.getvalue()[:-200])
    (fault,) = faults_of(folder)
    assert fault.startswith("line 1: image: a.png cannot be read: ")


def test_an_id_twice_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", row(id="x"), row(id=1), row(id="x"))
    assert faults_of(folder) == ('sample 2 (from 0): id: "x" is that of sample 0 too',)
    numbered = write(tmp_path / "numbered", row(id="1"), row())
    assert faults_of(numbered) == ('sample 1 (from 0): id: "1" is that of sample 0 too',)


def test_what_is_no_set_is_told_with_the_form_of_one(tmp_path: Path) -> None:
    def message(path: Path) -> str:
        with pytest.raises(EvalsetError) as caught:
            load(str(path), "all")
        return str(caught.value)

    empty = tmp_path / "empty"
    empty.mkdir()
    assert message(empty) == f"{empty} has no JSONL and no parquet\nhint: wanted {FORM}"
    assert message(tmp_path / "nothing") == f"{tmp_path / 'nothing'} is not there\nhint: wanted {FORM}"
    write(empty, row(), name="x.jsonl")
    write(empty, row(), name="y.jsonl")
    assert message(empty) == f"{empty} has 2 JSONL files: x.jsonl, y.jsonl\nhint: name the one that is meant"
    (empty / "x.jsonl").write_text("\n")
    assert message(empty / "x.jsonl") == f"{empty / 'x.jsonl'} has no rows\nhint: one JSON object a line"
    (empty / "x.parquet").write_bytes(b"torn")
    assert message(empty / "x.parquet").startswith(f"{empty / 'x.parquet'} is no parquet\n")


def test_faults_of_parquet_are_told_by_row(tmp_path: Path) -> None:
    rows = [
        {"image": b"torn", "question": "", "references": ["犬"]},
        {"image": None, "question": "何", "references": []},
    ]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(EvalsetError) as caught:
        load(str(tmp_path / "x.parquet"), "all")
    assert caught.value.details == (
        "row 0 (from 0): image: picture cannot be read: no kind of picture that is read here",
        'row 0 (from 0): question: wanted text that is not empty, found ""',
        "row 1 (from 0): references: wanted a list of one or more texts that are not empty, found []",
    )


def test_a_recipe_finds_its_own_set_beside_it_and_its_fingerprint_does_not_say_where(tmp_path: Path) -> None:
    fingerprints = []
    for place in ("here", "there"):
        folder = tmp_path / place
        for name in ("vlm", "base", "ja"):
            (folder / name).mkdir(parents=True)
        write(folder / "mine", row())
        (folder / "recipe.yaml").write_text(
            "parents: {vlm: ./vlm, base: ./base, llms: {ja: ./ja}}\nblend: {method: ties}\n"
            "evalset: {search: {name: ./mine}, held_out: {name: ja-scenes, split: held_out}}\n"
        )
        recipe = load_recipe(folder / "recipe.yaml")
        assert recipe.evalset is not None and recipe.evalset.search.split == "all"
        assert recipe.evalset.search.name == str(folder / "mine")
        fingerprints.append(json.dumps(fingerprint_fields(recipe)))
    assert fingerprints[0] == fingerprints[1] and '"name": "./mine"' in fingerprints[0]


def test_a_model_is_evaluated_on_an_own_set_by_its_path(cli: "Cli", parents: Path, mine: Path) -> None:
    done = cli.run("evaluate", parents / "vlm", "--evalset", f"{mine}:held_out", "--metric", "exact", "--json")
    assert done.status == 0, done.err
    (result,) = json.loads(done.out).values()
    (model,) = result["models"].values()
    assert [answer["references"] for answer in model["answers"]] == [["猫", "ねこ"], ["B", "乙"]]
