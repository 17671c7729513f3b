"""A projector that learns from captions."""

import io
import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from transformers import AutoModelForImageTextToText

from vlmmerge.backbone.captions import DEFAULT, check_captions, held_out_loss, school
from vlmmerge.backbone.encoder import load_encoder
from vlmmerge.backbone.folder import make_llava, make_processor
from vlmmerge.backbone.lessons import Lesson, divide, read_lessons
from vlmmerge.backbone.projector import Projector
from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets import load
from vlmmerge.evalsets.pictures import read_images
from vlmmerge.generate import LiveVlm
from vlmmerge.recipe import EvalsetChoice, Generate

if TYPE_CHECKING:
    from conftest import Cli

NUM_SAMPLES = 24
SAMPLES = load("ja-scenes", "search", NUM_SAMPLES)
HELD_OUT = EvalsetChoice(name="ja-scenes", split="held_out", samples=4)
Room = tuple[Any, Any, Projector, list[Lesson]]


@pytest.fixture(scope="module", params=["vit", "convnext, convolutional"])
def room(request: Any, parents: Path, encoder_of: Callable[[str], Path]) -> Room:
    """A model with an encoder's eyes, its processor, a projector of random weights, and captions of 24 pictures."""
    vlm = LiveVlm(parents / "vlm", Generate())
    encoder = load_encoder(encoder_of(request.param), torch.float32, vlm.device)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        projector = Projector(encoder.width, 32, "gelu")
    llava, processor = make_llava(vlm, encoder, projector, (-1,)), make_processor(vlm, encoder)
    return llava, processor, projector, read_lessons(llava, processor, SAMPLES, Generate())


def test_the_loss_is_what_transformers_alone_gives_of_pixels(room: Room) -> None:
    """Captions of several lengths in one batch, against one forward pass each, of pixels."""
    llava, processor, projector, lessons = room
    total, count = 0.0, 0
    for lesson in lessons[:5]:
        sample = next(each for each in SAMPLES if lesson in lessons_of(each.id, lessons))
        pixels = processor.image_processor(images=read_images(sample), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            logits = llava(input_ids=lesson.token_ids[None], pixel_values=pixels).logits[0]
        said = lesson.token_ids[-lesson.num_said :]
        total += float(cross_entropy(logits[-lesson.num_said - 1 : -1], said, reduction="sum"))
        count += lesson.num_said
    assert len({lesson.num_said for lesson in lessons[:5]}) > 1
    assert held_out_loss(llava, projector, lessons[:5], 5) == pytest.approx(total / count, rel=1e-4)
    assert held_out_loss(llava, projector, lessons[:5], 2) == pytest.approx(total / count, rel=1e-4)


def lessons_of(sample_id: str, lessons: list[Lesson]) -> list[Lesson]:
    """Each sample has as many lessons as references, in order."""
    start = 0
    for sample in SAMPLES:
        if sample.id == sample_id:
            return lessons[start : start + len(sample.references)]
        start += len(sample.references)
    raise AssertionError(sample_id)


def test_what_is_said_is_the_caption_and_the_token_that_ends_it(room: Room) -> None:
    llava, processor, _, lessons = room
    assert len(lessons) == sum(len(sample.references) for sample in SAMPLES)
    tokenizer = processor.tokenizer
    for lesson, reference in zip(lessons, SAMPLES[0].references, strict=False):
        said = lesson.token_ids[-lesson.num_said :]
        assert int(said[-1]) == tokenizer.eos_token_id
        assert torch.equal(said[:-1], tokenizer(reference, return_tensors="pt", add_special_tokens=False).input_ids[0])
        before = tokenizer.decode(lesson.token_ids[: -lesson.num_said])
        assert before.endswith("[/INST]") and int((lesson.token_ids == llava.config.image_token_id).sum()) == 16


@pytest.mark.parametrize(
    "answer",
    [
        "{{ message['content'] + eos_token }}",
        "{{ message['content'][0]['text'] + eos_token + '\\n' }}",
        "{{ nothing.at }}",
    ],
    ids=["as a text", "as parts, with more behind", "not at all"],
)
def test_a_chat_template_may_take_answers_in_any_form(answer: str, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    llava, processor, _, lessons = room
    asked = "{{ bos_token }}[INST]<image>{{ messages[0]['content'][1]['text'] }}[/INST]"
    template = asked + "{% for message in messages[1:] %}" + answer + "{% endfor %}"
    monkeypatch.setattr(processor, "chat_template", template)
    found = read_lessons(llava, processor, SAMPLES, Generate())
    for one, other in zip(found, lessons, strict=True):
        assert torch.equal(one.token_ids, other.token_ids) and one.num_said == other.num_said


def test_captions_lower_the_held_out_loss_and_only_the_projector_changes(room: Room) -> None:
    llava, _, projector, lessons = room
    before = {name: tensor.clone() for name, tensor in llava.state_dict().items()}
    found = school(llava, projector, lessons, replace(DEFAULT, epochs=3, rate=1e-2))
    assert found.after < 0.99 * found.before and found.told["is_kept"]
    assert found.num_train + found.num_held_out == len(lessons) and found.num_held_out > 0
    assert found.after == held_out_loss(llava, found.projector, divide(lessons)[1], 16)
    assert all(torch.equal(tensor, before[name]) for name, tensor in llava.state_dict().items())
    assert not torch.equal(found.projector.linear_1.weight, projector.linear_1.weight)


def test_what_captions_make_worse_is_not_kept(room: Room) -> None:
    llava, _, projector, lessons = room
    good = school(llava, projector, lessons, replace(DEFAULT, epochs=3, rate=1e-2)).projector
    for wild in (1e2, 1e20):  # far off, and beyond all numbers
        found = school(llava, good, lessons, replace(DEFAULT, epochs=1, rate=wild))
        assert found.after == found.before and not found.told["is_kept"]
        assert all(torch.equal(one, good.state_dict()[name]) for name, one in found.projector.state_dict().items())


def test_all_captions_of_a_picture_are_on_one_side(room: Room) -> None:
    lessons = room[3]
    train, held_out = divide(lessons[::-1])
    assert not {each.pictures for each in train} & {each.pictures for each in held_out}
    assert {each.pictures for each in held_out} == {each.pictures for each in divide(lessons)[1]}
    assert len({each.pictures for each in held_out}) == 3


def test_too_few_pictures_are_refused(room: Room) -> None:
    llava, processor, *_ = room
    with pytest.raises(EvalsetError) as caught:
        read_lessons(llava, processor, SAMPLES[:19], Generate())
    assert str(caught.value) == "captions of 19 pictures are too few to hold some out\nhint: give 20 or more"


def test_captions_of_what_is_scored_are_refused() -> None:
    with pytest.raises(EvalsetError) as caught:
        check_captions(EvalsetChoice(name="ja-scenes", split="held_out_questions"), HELD_OUT)
    assert str(caught.value) == (
        "captions and the evalset that eyes are scored on share their pictures: ja-scenes:held_out_questions and "
        "ja-scenes:held_out\nhint: give captions of other pictures, or another --evalset (or none)"
    )
    check_captions(EvalsetChoice(name="ja-scenes", split="search"), HELD_OUT)
    with pytest.raises(EvalsetError, match=r'no split "nowhere" in ja-scenes'):
        check_captions(EvalsetChoice(name="ja-scenes", split="nowhere"), None)


def test_captions_of_a_picture_like_one_that_is_scored_are_refused(tmp_path: Path) -> None:
    (sample,) = load("ja-scenes", "held_out", 1)
    larger = Image.open(io.BytesIO(sample.images[0])).convert("RGB").resize((200, 200))
    larger.save(tmp_path / "0.jpg", quality=90)
    captions = write_jsonl(tmp_path, 1)
    with pytest.raises(EvalsetError) as caught:
        check_captions(EvalsetChoice(name=str(captions), split="all"), HELD_OUT)
    assert "captions and the evalset that eyes are scored on share 1 pictures, or have like ones" in str(caught.value)


def write_jsonl(folder: Path, number: int) -> Path:
    rows = [
        {
            "image": f"{each}.jpg",
            "question": "画像を説明してください。",
            "references": [f"大きな赤い丸が{each}つあります。"],
        }
        for each in range(number)
    ]
    file = folder / "captions.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def learning(
    parents: Path, images: Path, encoder_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> list[object]:
    """A swap whose projector learns from captions of one's own; `--out` is to follow."""
    folder = tmp_path_factory.mktemp("captions")
    for number in range(24):
        Image.open(images / f"{number}.png").save(folder / f"{number}.jpg")
    eyes = ["--encoder", encoder_of("vit"), "--images", images, "--captions", write_jsonl(folder, 24)]
    return ["swap-vision", parents / "vlm", *eyes, "--evalset", "none", "--json", "--out"]


@pytest.fixture(scope="module")
def learnt(cli: "Cli", learning: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What that writes."""
    out = tmp_path_factory.mktemp("learnt") / "out"
    done = cli.run(*learning, out)
    assert done.status == 0, done.err
    assert json.loads(done.out) == {"out": str(out), **json.loads((out / "vlmmerge.json").read_text())}
    return out


def test_own_captions_are_learnt_and_told(learnt: Path) -> None:
    told = json.loads((learnt / "vlmmerge.json").read_text())["captions"]
    assert told["evalset"] == "captions.jsonl:all" and told["num_train"] == 21 and told["num_held_out"] == 3
    assert told["loss_after"] <= told["loss_before"]
    card = (learnt / "README.md").read_text(encoding="utf-8")
    assert "projector alone learnt from 21 captions of `captions.jsonl:all`; on 3 others" in card
    assert "--captions captions.jsonl:all" in card


def test_two_processes_share_the_work_and_one_writes(
    cli: "Cli", learning: list[object], learnt: Path, tmp_path: Path
) -> None:
    """As a launcher starts them: each looks at half of the pictures, and both steps by gradient are taken together."""
    out = tmp_path / "out"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        launched = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    launched |= {"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    cli.start(*learning, out, environments=[launched | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"])
    main, other = cli.wait_all()
    assert (main.status, other.status) == (0, 0), main.err + other.err
    assert (other.out, other.err) == ("", "")
    assert {path.name for path in out.iterdir()} == {path.name for path in learnt.iterdir()}
    alone, told = json.loads((learnt / "vlmmerge.json").read_text()), json.loads(main.out)
    assert told["captions"]["loss_before"] == pytest.approx(alone["captions"]["loss_before"], rel=1e-4)
    assert told["captions"]["loss_after"] <= told["captions"]["loss_before"]
    AutoModelForImageTextToText.from_pretrained(out)


def test_captions_and_a_donor_do_not_go_together(cli: "Cli", parents: Path, tmp_path: Path) -> None:
    eyes = ("--donor", parents / "vlm", "--captions", "ja-scenes:search")
    done = cli.run("swap-vision", parents / "vlm", *eyes, "--out", tmp_path / "out")
    message = "error: --captions goes with --encoder\nhint: a donor's projector is taken over as it is"
    assert (done.status, done.message) == (1, message)
