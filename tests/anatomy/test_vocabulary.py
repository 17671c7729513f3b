"""vocabulary.py and all that follows from it: rows pair by their tokens, and what not all have stays the VLM's.

The parents are those of conftest.py with their rows moved, added or dropped: files, tokenizers and configs alike.
"""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, trainers
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoTokenizer

from vlmmerge.anatomy import EMBEDDINGS, HEAD, KEEP_EMBEDDINGS
from vlmmerge.anatomy.vocabulary import SENTENCES, check_segmentation, pair_rows
from vlmmerge.blend import METHODS, chunks, cuts, passes
from vlmmerge.blend.live import write_chunk, write_rows
from vlmmerge.checkpoint import open_checkpoint
from vlmmerge.checkpoint.tokenizer import open_tokenizers
from vlmmerge.errors import CheckpointError, ParentsError
from vlmmerge.evaluate import Evaluator
from vlmmerge.export import ExportWatcher, export, num_bytes_written
from vlmmerge.generate import LiveVlm
from vlmmerge.genome import Ratio, Ratios
from vlmmerge.journal import read_journal
from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import load_recipe
from vlmmerge.resident import make_blender

if TYPE_CHECKING:
    from conftest import Cli

WEIGHTS = "model.safetensors"
NUM_PADDING = 5
# Asks an exported folder in a process of its own.
ANSWERS = """
import json, sys
from pathlib import Path
from vlmmerge.evalsets import load
from vlmmerge.generate import LiveVlm
from vlmmerge.recipe import Generate

vlm = LiveVlm(Path(sys.argv[1]), Generate(question="画像を説明してください。", max_new_tokens=8))
print(json.dumps(vlm.answer(vlm.prepare(load("ja-scenes", "held_out", 6)))))
"""


def plan_of(folder: Path, *overrides: str) -> Plan:
    return make_plan(load_recipe(folder / "recipe.yaml", overrides))


def fault_of(folder: Path, *overrides: str) -> ParentsError:
    with pytest.raises(ParentsError) as caught:
        plan_of(folder, *overrides)
    return caught.value


def some_ratios(plan: Plan) -> Ratios:
    rng = random.Random(0)
    return {
        slot: {name: Ratio(rng.uniform(0.2, 1.2), rng.uniform(0.3, 1.0)) for name in plan.blended_parents}
        for slot in plan.anatomy.slots
    }


def tokens_of(folder: Path) -> dict[str, int]:
    (tokenizer,) = open_tokenizers({"it": folder}).values()
    assert tokenizer is not None
    return dict(tokenizer.rows)


def change_json(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads(file.read_text(encoding="utf-8"))
    change(data)
    file.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def change_tensors(folder: Path, change: Callable[[str, Tensor], Tensor | None]) -> None:
    """Rewrite each tensor; None drops it."""
    tensors = {key: change(key, tensor) for key, tensor in load_file(folder / WEIGHTS).items()}
    kept = {key: tensor.contiguous() for key, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})


def has_token_rows(key: str) -> bool:
    return key.endswith(("embed_tokens.weight", "lm_head.weight"))


def take_rows(folder: Path, rows: Sequence[int]) -> None:
    """Give a language model these of its rows in this order, and its tokenizer the same."""
    to = {row: number for number, row in enumerate(rows)}

    def renumber(data: dict[str, Any]) -> None:
        model = data["model"]
        model["vocab"] = {token: to[row] for token, row in model["vocab"].items() if row in to}
        data["added_tokens"] = [{**each, "id": to[each["id"]]} for each in data["added_tokens"] if each["id"] in to]

    change_json(folder / "tokenizer.json", renumber)
    change_json(folder / "config.json", lambda data: data.update(vocab_size=len(rows)))
    change_tensors(folder, lambda key, tensor: tensor[list(rows)] if has_token_rows(key) else tensor)


def pad_rows(folder: Path, num_rows: int) -> None:
    """Give a VLM rows that its tokenizer does not know."""

    def pad(key: str, tensor: Tensor) -> Tensor:
        noise = torch.randn(num_rows, tensor.shape[-1], generator=torch.Generator().manual_seed(7)).to(tensor)
        return torch.cat([tensor, noise]) if has_token_rows(key) else tensor

    change_tensors(folder, pad)
    grown = len(tokens_of(folder)) + num_rows
    change_json(folder / "config.json", lambda data: data["text_config"].update(vocab_size=grown))


def add_token(folder: Path, content: str) -> None:
    """Give a language model a special token of its own, in a new row."""
    row = len(tokens_of(folder))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = {"id": row, "content": content, **flags}
    change_json(folder / "tokenizer.json", lambda data: data["added_tokens"].append(added))
    change_tensors(folder, lambda key, tensor: torch.cat([tensor, tensor[:1]]) if has_token_rows(key) else tensor)


def tie(folder: Path) -> None:
    """Drop a language model's head: its embeddings serve as one."""
    change_tensors(folder, lambda key, tensor: None if key.endswith("lm_head.weight") else tensor)
    change_json(folder / "config.json", lambda data: data.update(tie_word_embeddings=True))


def repeat_head(folder: Path, scale: float = 1.0) -> None:
    """Store tied embeddings once more, as the head."""
    tensors = load_file(folder / WEIGHTS)
    (key,) = [key for key in tensors if key.endswith("embed_tokens.weight")]
    tensors[key.replace("model.embed_tokens", "lm_head")] = tensors[key] * scale
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def shuffled(num_rows: int, seed: int) -> list[int]:
    rows = list(range(num_rows))
    random.Random(seed).shuffle(rows)
    return rows


def token_tensors(folder: Path) -> dict[str, Tensor]:
    """Embeddings and head of a folder, float32."""
    return {
        "head" if key.endswith("lm_head.weight") else "embeddings": tensor.float()
        for key, tensor in load_file(folder / WEIGHTS).items()
        if has_token_rows(key)
    }


@pytest.fixture(scope="module")
def uneven(parents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VLM with `<image>` and padding rows; a base and an LLM without, so that nearly every row has another number."""
    folder = shutil.copytree(parents, tmp_path_factory.mktemp("uneven") / "parents")
    pad_rows(folder / "vlm", NUM_PADDING)
    tokens = tokens_of(folder / "base")
    for name in ("base", "ja-llm"):
        take_rows(folder / name, [row for row in range(len(tokens)) if row != tokens["<image>"]])
    return folder


@pytest.fixture(scope="module")
def shuffled_parents(uneven: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `uneven`, but base and LLM each have their rows in an order of their own."""
    folder = shutil.copytree(uneven, tmp_path_factory.mktemp("shuffled") / "parents")
    for seed, name in enumerate(("base", "ja-llm")):
        take_rows(folder / name, shuffled(len(tokens_of(folder / name)), seed))
    return folder


def copy_of(folder: Path, to: Path) -> Path:
    return shutil.copytree(folder, to / "parents")


# --- which rows pair ---


@pytest.mark.parametrize("family", ["uneven", "shuffled_parents"])
def test_rows_pair_by_the_spelling_of_their_tokens(request: pytest.FixtureRequest, family: str) -> None:
    folder = request.getfixturevalue(family)
    rows = plan_of(folder).vocabulary.rows
    tokens = {"vlm": tokens_of(folder / "vlm"), "base": tokens_of(folder / "base"), "ja": tokens_of(folder / "ja-llm")}
    shared = [token for token in tokens["vlm"] if token != "<image>"]
    assert set(rows) == set(tokens) and rows["vlm"].tolist() == sorted(rows["vlm"].tolist())
    for name, of_it in tokens.items():
        assert sorted(rows[name].tolist()) == sorted(of_it[token] for token in shared)
    paired = list(zip(*(rows[name].tolist() for name in tokens), strict=True))
    assert set(paired) == {tuple(of_it[token] for of_it in tokens.values()) for token in shared}


def test_equal_vocabularies_are_not_gathered(parents: Path) -> None:
    plan = plan_of(parents)
    assert not plan.vocabulary.rows and plan.vocabulary.rows_of("vlm", EMBEDDINGS) is None
    num_rows = len(tokens_of(parents / "vlm"))
    assert plan.vocabulary.policy == {"blended": f"all {num_rows} rows: the parents' vocabularies are the same"}


def test_a_token_beyond_a_parents_rows_has_none() -> None:
    tokens = {"vlm": {"a": 0, "b": 1}, "base": {"a": 0, "b": 1, "c": 2}}
    paired = pair_rows(tokens, {"vlm": [3], "base": [1]})
    assert paired.rows == {"vlm": [0], "base": [0]}
    assert paired.policy == {
        "blended": "1 row: the tokens that all parents have, paired by their spelling",
        "stay the VLM's": "2 rows: b, and 1 without a token",
    }


def test_the_policy_tells_counts_and_first_examples_of_all_that_is_not_blended() -> None:
    tokens = {
        "vlm": {"a": 0, "[/INST]": 1, "\n": 2},
        "base": {"a": 1},
        "ja": {"a": 0} | {f"語{number}": 1 + number for number in range(2000)},
    }
    assert pair_rows(tokens, {"vlm": [3], "base": [4], "ja": [2001]}).policy == {
        "blended": "1 row: the tokens that all parents have, paired by their spelling",
        "stay the VLM's": "2 rows: [/INST], '\\n'",
        "left out of base": "3 rows: 3 without a token",
        "left out of ja": "2,000 rows: 語0, 語1, 語2, 語3, 語4, 語5, ...",
    }


@pytest.mark.parametrize("overrides", [[], ["blend.embeddings=vlm"]])
def test_a_dry_run_tells_what_becomes_of_which_rows(
    cli: "Cli", uneven: Path, tmp_path: Path, overrides: list[str]
) -> None:
    """`[/INST]` and its like were taken for markup of the table."""
    folder = copy_of(uneven, tmp_path)
    for name in ("base", "ja-llm"):
        add_token(folder / name, f"[/{name}]")
    options = [word for override in overrides for word in ("--set", override)]
    told = cli.run("evolve", folder / "recipe.yaml", "--dry-run", *options)
    described = cli.run("evolve", folder / "recipe.yaml", "--dry-run", "--json", *options)
    assert told.status == described.status == 0, told.err + described.err
    wanted = {
        "blended": "179 rows: the tokens that all parents have, paired by their spelling",
        "stay the VLM's": "6 rows: <image>, and 5 without a token",
        "left out of base": "1 row: [/base]",
        "left out of ja": "1 row: [/ja-llm]",
    }
    if overrides:
        wanted = {"kept": "the VLM's embeddings and head stay as they are"}
    assert json.loads(described.out)["vocabulary"] == wanted
    assert all(f"{key}: {text}" in " ".join(told.out.replace("│", " ").split()) for key, text in wanted.items())


# --- what is blended ---


@pytest.mark.parametrize("family", ["uneven", "shuffled_parents"])
def test_shared_rows_are_blended_and_the_vlms_other_rows_stay_bit_for_bit(
    request: pytest.FixtureRequest, family: str, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(family)
    plan = plan_of(folder)
    export(plan, plan.uniform({"ja": 1.0}), tmp_path / "ja", {})
    export(plan, plan.uniform({}), tmp_path / "nothing", {})
    tokens, ours = tokens_of(folder / "vlm"), token_tensors(folder / "vlm")
    for name, child in (("ja-llm", tmp_path / "ja"), ("base", tmp_path / "nothing")):
        of_it, theirs = tokens_of(folder / name), token_tensors(folder / name)
        for part, tensor in token_tensors(child).items():
            assert len(tensor) == len(tokens) + NUM_PADDING
            for token, row in tokens.items():
                wanted = theirs[part][of_it[token]] if token in of_it else ours[part][row]
                assert torch.equal(tensor[row], wanted), f"{part}: {token}"
            assert torch.equal(tensor[len(tokens) :], ours[part][len(tokens) :])


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_a_parents_rows_moves_no_byte_of_the_child(
    uneven: Path, shuffled_parents: Path, method: str, tmp_path: Path
) -> None:
    for name, folder in (("in order", uneven), ("shuffled", shuffled_parents)):
        plan = plan_of(folder, f"blend.method={method}")
        export(plan, some_ratios(plan), tmp_path / name, {})
    assert (tmp_path / "in order" / WEIGHTS).read_bytes() == (tmp_path / "shuffled" / WEIGHTS).read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_gathering_all_rows_gives_the_bits_of_gathering_none(parents: Path, method: str, tmp_path: Path) -> None:
    folder = copy_of(parents, tmp_path)
    take_rows(folder / "ja-llm", shuffled(len(tokens_of(folder / "ja-llm")), seed=2))
    children = []
    for name, where in (("whole", parents), ("gathered", folder)):
        plan = plan_of(where, f"blend.method={method}")
        assert bool(plan.vocabulary.rows) == (name == "gathered")
        export(plan, some_ratios(plan), tmp_path / name, {})
        children.append((tmp_path / name / WEIGHTS).read_bytes())
    assert children[0] == children[1]


@pytest.mark.parametrize("method", METHODS)
def test_the_exported_model_is_the_live_model_bit_for_bit(shuffled_parents: Path, method: str, tmp_path: Path) -> None:
    plan = plan_of(shuffled_parents, f"blend.method={method}")
    assert_ships_what_is_live(plan, shuffled_parents, tmp_path)


def assert_ships_what_is_live(plan: Plan, folder: Path, tmp_path: Path) -> None:
    vlm = LiveVlm(folder / "vlm", plan.recipe.generate)
    before = {name: parameter.clone() for name, parameter in vlm.parameters().items()}
    make_blender(plan, vlm.model).write(some_ratios(plan))
    export(plan, some_ratios(plan), tmp_path / "out", {})
    shipped = dict(AutoModelForImageTextToText.from_pretrained(tmp_path / "out").named_parameters())
    live = vlm.parameters()
    assert live.keys() == shipped.keys()
    assert all(torch.equal(live[name].view(torch.int32), shipped[name].view(torch.int32)) for name in live)
    moved = {name for name in live if not torch.equal(live[name], before[name])}
    # Model Stock gives back the base, here the VLM's own, where a norm's task vectors point away from each other.
    assert len(moved) >= len(plan.anatomy.slots) - (plan.recipe.blend.method == "model_stock")


@pytest.mark.parametrize("method", METHODS)
def test_chunks_that_cut_through_rows_move_no_byte_and_every_byte_is_counted_once(
    shuffled_parents: Path, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(shuffled_parents, f"blend.method={method}")
    export(plan, some_ratios(plan), tmp_path / "whole", {})
    for module, name, length in ((passes, "CHUNK", 100), (chunks, "TASK", 300), (cuts, "SMALLEST_PIECE", 250)):
        monkeypatch.setattr(module, name, length)
    export_counted(plan, tmp_path / "cut")
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    assert_ships_what_is_live(plan, shuffled_parents, tmp_path)


def export_counted(plan: Plan, out: Path) -> None:
    """Export, and check that as many bytes were told of as are written."""
    told: list[int] = []
    export(plan, some_ratios(plan), out, {}, ExportWatcher(on_bytes=told.append))
    assert sum(told) == num_bytes_written(plan) == (out / WEIGHTS).stat().st_size


@pytest.mark.parametrize("method", METHODS)
def test_the_vlm_alone_comes_back_bit_for_bit(shuffled_parents: Path, method: str, tmp_path: Path) -> None:
    plan = plan_of(shuffled_parents, f"blend.method={method}")
    export(plan, plan.uniform({"vlm": 1.0}), tmp_path / "out", {})
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (shuffled_parents / "vlm" / WEIGHTS).read_bytes()
    vlm = LiveVlm(shuffled_parents / "vlm", plan.recipe.generate)
    before = {name: parameter.clone() for name, parameter in vlm.parameters().items()}
    blender = make_blender(plan, vlm.model)
    for ratios in (some_ratios(plan), plan.uniform({"vlm": 1.0})):
        blender.write(ratios)
    assert all(torch.equal(parameter, before[name]) for name, parameter in vlm.parameters().items())


def test_only_the_byte_ranges_of_language_tensors_are_written(uneven: Path, tmp_path: Path) -> None:
    plan = plan_of(uneven)
    export(plan, some_ratios(plan), tmp_path / "out", {})
    before, after = (bytearray((folder / WEIGHTS).read_bytes()) for folder in (uneven / "vlm", tmp_path / "out"))
    assert len(before) == len(after)
    for key in plan.anatomy.keys["vlm"].values():
        info = plan.checkpoints["vlm"].tensors[key]
        before[info.start : info.end] = after[info.start : info.end] = bytes(info.num_bytes)
    assert before == after


def test_evolving_such_parents_ships_what_answered(cli: "Cli", uneven: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = cli.run(
        "evolve", uneven / "recipe.yaml", "--run", run, "--set", "search.evaluations=3", "--set", "search.grid=0"
    )
    assert done.status == 0, done.err
    _, records = read_journal(run / "journal.jsonl")
    answers = [record["answers"] for record in records if record["kind"] == "held_out"][-1]
    command = [sys.executable, "-c", ANSWERS, str(run / "best")]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], text=True, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == answers and len(set(answers)) > 1


# --- tied and untied heads ---


@pytest.mark.parametrize("names", [["base"], ["ja-llm"], ["base", "ja-llm"]], ids=str)
def test_a_tied_parents_embeddings_are_blended_into_the_vlms_own_head(
    shuffled_parents: Path, names: list[str], tmp_path: Path
) -> None:
    folder = copy_of(shuffled_parents, tmp_path)
    for name in names:
        tie(folder / name)
    plan = plan_of(folder)
    assert_ships_what_is_live(plan, folder, tmp_path)
    tokens, ours = tokens_of(folder / "vlm"), token_tensors(folder / "vlm")
    for name, weights in (("base", {}), ("ja-llm", {"ja": 1.0})):
        export(plan, plan.uniform(weights), tmp_path / name, {})
        of_it, theirs = tokens_of(folder / name), token_tensors(folder / name)
        head = token_tensors(tmp_path / name)["head"]
        for token, row in tokens.items():
            tied = theirs.get("head", theirs["embeddings"])
            assert torch.equal(head[row], tied[of_it[token]] if token in of_it else ours["head"][row])


@pytest.mark.parametrize("method", METHODS)
def test_a_tied_head_that_the_files_hold_all_the_same_is_written_with_the_embeddings(
    tied_parents: Path, method: str, tmp_path: Path
) -> None:
    """Such parents were refused."""
    folder = copy_of(tied_parents, tmp_path)
    for name in ("vlm", "base", "ja-llm"):
        repeat_head(folder / name)
    plan = plan_of(folder, f"blend.method={method}")
    assert_ships_what_is_live(plan, folder, tmp_path)
    export_counted(plan, tmp_path / "out")
    child = token_tensors(tmp_path / "out")
    assert torch.equal(child["head"], child["embeddings"])
    assert not torch.equal(child["head"], token_tensors(folder / "vlm")["head"])


@pytest.mark.parametrize("name", ["vlm", "base", "ja-llm"])
def test_a_tied_head_that_is_not_what_the_embeddings_are_is_refused(
    tied_parents: Path, name: str, tmp_path: Path
) -> None:
    folder = copy_of(tied_parents, tmp_path)
    repeat_head(folder / name, scale=1.5)
    plan = plan_of(folder)
    keys = ("language_model.lm_head.weight", "language_model.model.embed_tokens.weight")
    head, embeddings = keys if name == "vlm" else ("lm_head.weight", "model.embed_tokens.weight")
    message = (
        f"the config of `{name.removesuffix('-llm')}` ties its head to its embeddings, but `{head}` differs from "
        f"`{embeddings}`\nhint: mend `tie_word_embeddings` in its config.json; or {KEEP_EMBEDDINGS}"
    )
    with pytest.raises(ParentsError) as caught:
        make_blender(plan, LiveVlm(folder / "vlm", plan.recipe.generate).model)
    assert str(caught.value) == message
    with pytest.raises(ParentsError) as caught:
        export(plan, some_ratios(plan), tmp_path / "out", {})
    assert str(caught.value) == message and not (tmp_path / "out").exists()


def test_a_tied_vlm_takes_no_head_of_another_parent(tied_parents: Path, parents: Path, tmp_path: Path) -> None:
    folder = copy_of(tied_parents, tmp_path)
    shutil.rmtree(folder / "ja-llm")
    shutil.copytree(parents / "ja-llm", folder / "ja-llm")
    error = fault_of(folder)
    assert error.details == ("lm_head.weight  (180, 32) in `ja`   tied to the embeddings in `vlm`",)
    assert error.hint == KEEP_EMBEDDINGS
    plan = plan_of(folder, "blend.embeddings=vlm")
    assert_ships_what_is_live(plan, folder, tmp_path)


# --- the VLM's own embeddings and head ---


@pytest.mark.parametrize("family", ["parents", "uneven", "tied_parents"])
def test_with_embeddings_vlm_the_rest_of_the_tower_is_blended(
    request: pytest.FixtureRequest, family: str, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(family)
    plan = plan_of(folder, "blend.embeddings=vlm", "blend.depth=per_layer")
    assert not {EMBEDDINGS, HEAD} & set(plan.anatomy.slots)
    assert not any(gene.name.endswith("embeddings") for gene in plan.space.genes)
    assert_ships_what_is_live(plan, folder, tmp_path)
    child, ours = token_tensors(tmp_path / "out"), token_tensors(folder / "vlm")
    assert child.keys() == ours.keys() and all(torch.equal(child[part], ours[part]) for part in ours)


def test_with_embeddings_vlm_no_tokenizer_is_opened(parents: Path, tmp_path: Path) -> None:
    folder = copy_of(parents, tmp_path)
    for name in ("vlm", "base", "ja-llm"):
        (folder / name / "tokenizer.json").write_text("{}")
    assert plan_of(folder, "blend.embeddings=vlm").vocabulary.policy == {
        "kept": "the VLM's embeddings and head stay as they are"
    }


# --- another segmentation ---


def with_merges_reversed(data: dict[str, Any]) -> None:
    data["model"]["merges"].reverse()


def without_one_merge(data: dict[str, Any]) -> None:
    merges = data["model"]["merges"]
    merges.remove(next(merge for merge in merges if "".join(merge) == "ます"))


def of_another_family(data: dict[str, Any]) -> None:
    vocab = data["model"]["vocab"]
    in_order = sorted(vocab, key=vocab.__getitem__)
    data["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [[token, -1.0] for token in in_order]}


@pytest.mark.parametrize("name", ["base", "ja-llm"])
@pytest.mark.parametrize("change", [with_merges_reversed, without_one_merge, of_another_family])
def test_parents_that_cut_the_same_text_otherwise_are_refused_though_their_tokens_are_the_same(
    parents: Path, name: str, change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    folder = copy_of(parents, tmp_path)
    change_json(folder / name / "tokenizer.json", change)
    assert tokens_of(folder / name) == tokens_of(folder / "vlm")
    error = fault_of(folder)
    assert error.message == "embeddings cannot be blended: the parents' tokenizers cut the same text into other tokens"
    assert error.hint == KEEP_EMBEDDINGS
    (line,) = error.details
    ours, _, theirs = line.partition(" in `vlm`   ")
    assert theirs.endswith(f" in `{name.removesuffix('-llm')}`") and "|" in ours + theirs
    assert ours != theirs.rpartition(" in ")[0]
    plan_of(folder, "blend.embeddings=vlm")


def test_every_parent_that_cuts_otherwise_is_told_with_what_it_makes_of_a_text(parents: Path, tmp_path: Path) -> None:
    folder = copy_of(parents, tmp_path)
    for name in ("base", "ja-llm"):
        change_json(folder / name / "tokenizer.json", without_one_merge)
    lines = fault_of(folder).details
    assert [line.rpartition(" in ")[2] for line in lines] == ["`base`", "`ja`"]
    assert all(line.startswith("ま") and "ま|す" in line for line in lines)


def test_tokens_of_its_own_that_change_no_ordinary_text_do_not_make_another_segmentation(
    uneven: Path, tmp_path: Path
) -> None:
    folder = copy_of(uneven, tmp_path)
    for content in ("<|im_start|>", "<|im_end|>"):
        add_token(folder / "ja-llm", content)
    policy = plan_of(folder).vocabulary.policy
    assert policy["left out of ja"] == "2 rows: <|im_start|>, <|im_end|>"


def test_settings_of_someones_training_do_not_make_another_segmentation(parents: Path, tmp_path: Path) -> None:
    folder = copy_of(parents, tmp_path)
    truncation = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    change_json(folder / "base" / "tokenizer.json", lambda data: data.update(truncation=truncation))
    assert not plan_of(folder).vocabulary.rows


def test_a_space_put_before_a_text_does_not_make_another_segmentation(tmp_path: Path) -> None:
    """Converted by another version of transformers, Mistral's tokenizer puts none, and else is the same."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    with_space, without = tmp_path / "with", tmp_path / "without"
    with_space.mkdir()
    tokenizer.save(str(with_space / "tokenizer.json"))
    shutil.copytree(with_space, without)
    change_json(without / "tokenizer.json", lambda data: data["normalizer"]["normalizers"].pop(0))
    opened = open_tokenizers({"vlm": with_space, "base": without})
    vlm, base = opened["vlm"], opened["base"]
    assert vlm is not None and base is not None and vlm.cut("赤い") != base.cut("赤い")
    check_segmentation({"vlm": vlm, "base": base})


# --- tokenizers of every kind, and none ---


def test_parents_without_tokenizers_pair_by_number_where_they_have_as_many_rows(parents: Path, tmp_path: Path) -> None:
    folder = copy_of(parents, tmp_path)
    policies = []
    for name in ("base", "ja-llm", "vlm"):
        (folder / name / "tokenizer.json").unlink()
        (folder / name / "tokenizer_config.json").unlink()
        assert not plan_of(folder).vocabulary.rows
        policies.append(plan_of(folder).vocabulary.policy)
    same = "all 180 rows: the parents' vocabularies are the same"
    assert policies == [
        {"blended": same, "without a tokenizer": "base: rows pair by number"},
        {"blended": same, "without a tokenizer": "base, ja: rows pair by number"},
        {"blended": "all 180 rows: by number, for no parent has a tokenizer"},
    ]


def test_a_parent_without_a_tokenizer_has_the_rows_of_the_vlm(parents: Path, tmp_path: Path) -> None:
    folder = copy_of(parents, tmp_path)
    take_rows(folder / "ja-llm", shuffled(180, seed=3))
    (folder / "base" / "tokenizer.json").unlink()
    (folder / "base" / "tokenizer_config.json").unlink()
    rows = plan_of(folder).vocabulary.rows
    assert torch.equal(rows["base"], rows["vlm"]) and not torch.equal(rows["ja"], rows["vlm"])


def test_a_parent_without_a_tokenizer_and_with_other_rows_is_refused(uneven: Path, tmp_path: Path) -> None:
    folder = copy_of(uneven, tmp_path)
    for name in ("base", "ja-llm"):
        (folder / name / "tokenizer.json").unlink()
        (folder / name / "tokenizer_config.json").unlink()
    assert str(fault_of(folder)) == (
        "rows of the embeddings cannot be paired: which row is which token is not known\n"
        "  179 rows in `base`, without a tokenizer   185 in `vlm`\n"
        "  179 rows in `ja`, without a tokenizer   185 in `vlm`\n"
        f"hint: put the tokenizer's files beside the weights; or {KEEP_EMBEDDINGS}"
    )
    plan_of(folder, "blend.embeddings=vlm")


def test_a_damaged_tokenizer_is_told(parents: Path, tmp_path: Path) -> None:
    folder = copy_of(parents, tmp_path)
    (folder / "base" / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError) as caught:
        plan_of(folder)
    assert caught.value.message == f"{folder / 'base'}: its tokenizer cannot be opened"
    assert caught.value.details[0].startswith("Cannot instantiate Tokenizer")
    assert caught.value.hint == (
        "save it anew with transformers' `save_pretrained`, which writes a tokenizer.json; "
        "or `--set blend.embeddings=vlm`, which needs none"
    )


def test_a_sentencepiece_model_without_a_tokenizer_json_is_the_same_tokenizer(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    with (old / "tokenizer.model").open("wb") as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES), model_writer=model, vocab_size=700, model_type="bpe", byte_fallback=True,
            character_coverage=1.0, minloglevel=2,
        )  # fmt: skip
    (old / "config.json").write_text(json.dumps({"model_type": "mistral"}))
    (old / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    AutoTokenizer.from_pretrained(old).save_pretrained(new)
    (new / "tokenizer.model").unlink(missing_ok=True)
    opened = open_tokenizers({"vlm": old, "base": new})
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(old / "tokenizer.model"))
    wanted = {pieces.id_to_piece(row): row for row in range(pieces.get_piece_size())}
    assert opened["vlm"] is not None and opened["vlm"].rows == wanted
    assert opened["base"] is not None and opened["base"].rows == wanted
    assert opened["vlm"].cut("犬と散歩")[-3:] == pieces.encode("犬と散歩", out_type=str)[-3:]
    check_segmentation({name: tokenizer for name, tokenizer in opened.items() if tokenizer})


def test_no_code_that_comes_with_a_tokenizer_is_run(tmp_path: Path) -> None:
    folder, proof = tmp_path / "remote", tmp_path / "ran"
    folder.mkdir()
    code = f"open({str(proof)!r}, 'w').close()\nclass Own: pass\n"
    (folder / "code.py").write_text(code)
    auto_map = {"AutoConfig": "code.Own", "AutoTokenizer": ["code.Own", None]}
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": auto_map}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Own", "auto_map": auto_map}))
    with pytest.raises(CheckpointError, match="its tokenizer cannot be opened"):
        open_tokenizers({"base": folder})
    assert not proof.exists()


# --- live models with other numbers of rows ---


@pytest.mark.parametrize("num_live", [5, 8, 12])
@pytest.mark.parametrize("rows", [None, [0, 2, 5, 7]], ids=["all rows", "some rows"])
def test_live_rows_beyond_the_files_or_not_named_are_left_alone(num_live: int, rows: list[int] | None) -> None:
    named = list(range(8)) if rows is None else rows
    live, blended = torch.full((num_live, 3), -1.0), torch.arange(3.0 * len(named)).view(-1, 3)
    at = None if rows is None else torch.tensor(rows)
    write_rows(live, blended, at)
    for length in (1, 2, 3, 5, 100):
        by_chunks = torch.full((num_live, 3), -1.0)
        parts = blended.view(-1).split(length)
        assert sum(write_chunk(by_chunks, at, number * length, part) for number, part in enumerate(parts)) == (
            blended.nbytes
        )
        assert torch.equal(by_chunks, live)
    for row in range(num_live):
        wanted = blended[named.index(row)] if row in named else torch.full((3,), -1.0)
        assert torch.equal(live[row], wanted)


def test_a_live_model_with_more_rows_than_the_file_answers_as_one_without(uneven: Path) -> None:
    plan = plan_of(uneven)
    vlm = LiveVlm(uneven / "vlm", plan.recipe.generate)
    vlm.model.resize_token_embeddings(256, mean_resizing=False)
    before = {name: p.clone() for name, p in vlm.parameters().items() if has_token_rows(name)}
    make_blender(plan, vlm.model).write(some_ratios(plan))
    plain = Evaluator(plan)
    plain.blender.write(some_ratios(plan))
    for name, tensor in before.items():
        live = vlm.parameters()[name]
        assert torch.equal(live[:185], plain.vlm.parameters()[name]) and torch.equal(live[185:], tensor[185:])


# --- what a config says of the head ---


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, None),
        ({"tie_word_embeddings": True}, True),
        ({"tie_word_embeddings": False}, False),
        ({"text_config": {"tie_word_embeddings": True}, "tie_word_embeddings": False}, True),
        ({"text_config": {}}, None),
        ({"text_config": {"tie_word_embeddings": False}}, False),
    ],
)
def test_a_config_ties_the_head_in_either_place(parents: Path, tmp_path: Path, config: Any, says: bool | None) -> None:
    folder = shutil.copytree(parents / "base", tmp_path / "it")
    (folder / "config.json").write_text(json.dumps(config))
    assert open_checkpoint(folder).says_tied is says
