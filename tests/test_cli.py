"""cli.py: a user's fault is one message with a hint and exit 1, results go to stdout, nothing is written over."""

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file, save_file

from vlmmerge import __version__
from vlmmerge.cli import COMMANDS
from vlmmerge.evalsets import find_evalsets, load
from vlmmerge.journal import read_journal
from vlmmerge.mergekit import read_mergekit
from vlmmerge.ratios import fixed_ratios
from vlmmerge.run import choose_candidate, open_run, winner_of

if TYPE_CHECKING:
    from conftest import Cli, WholeRun

ROOT = Path(__file__).parents[1]
HINT = "hint: mend the file, or use --set KEY=VALUE"


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("picture") / "picture.jpg"
    file.write_bytes(load("ja-scenes", "search", 1)[0].images[0])
    return file


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("search.evaluatons=3", 'search.evaluatons: unknown key (did you mean "evaluations"?)'),
        ("serch.seed=3", 'serch: unknown key (did you mean "search"?)'),
        ("search.seed=x", 'search.seed: wanted an integer, found "x"'),
        ("blend.method=tie", 'blend.method: "tie" is not one of linear, slerp, task_arithmetic, ties, '),
        ("blend.method=model_stock", "blend.method: model_stock has no ratios to evolve; take another, or `vlmmerge "),
        ("blend.select_topk=0.5", "blend.select_topk: dare_ties does not use it; it is for sce"),
        ("blend.depth={groups: 0}", "blend.depth: wanted global, {groups: N} with N of at least 1, {curve: K} with "),
        ("parents.vlm=./vlmm", 'parents.vlm: no such folder ./vlmm (did you mean "vlm"?), looked for '),
        ("score.objective={cidr: 1.0}", 'score.objective.cidr: no metric "cidr" (did you mean "cider"?)'),
        ("score.guards={japanes: 90}", 'score.guards.japanes: unknown key (did you mean "japanese"?)'),
        ("score.guards={grounding: 2}", "score.guards.grounding: wanted a number above 0 and up to 1, found 2"),
        ("evalset.retention={name: ja-scene, split: x}", 'evalset.retention.name: no evalset "ja-scene" (did you mean'),
        ("score.report=[fact]", 'score.report[0]: no metric "fact" (did you mean "facts"?)'),
        ("evalset.search.name=ja-scene", 'evalset.search.name: no evalset "ja-scene" (did you mean "ja-scenes"?)'),
        ("evalset.search.split=serach", "evalset.search.split: no split in ja-scenes"),
        ("evalset=", "evalset: missing, wanted {search: {name, split}, held_out: {name, split}}"),
        ("search.seed", "--set search.seed: wanted KEY=VALUE, such as search.seed=3"),
    ],
)
def test_a_wrong_recipe_is_one_message_with_a_hint_and_nothing_is_written(
    cli: "Cli", recipe_file: Path, tmp_path: Path, override: str, fault: str
) -> None:
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "run", "--set", override)
    head, *faults, hint = done.message.splitlines()
    assert done.status == 1 and done.out == ""
    assert head == f"error: {recipe_file}: 1 fault in the recipe" and hint == HINT
    assert len(faults) == 1 and faults[0].startswith(f"  {fault}")
    assert not (tmp_path / "run").exists()


def test_all_faults_of_a_recipe_come_at_once(cli: "Cli", recipe_file: Path, tmp_path: Path) -> None:
    overrides = ["search.sed=1", "parents.base=./nowhere", "score.objective={cidr: 1.0}", "evalset.held_out.split=test"]
    arguments = [word for override in overrides for word in ("--set", override)]
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "run", *arguments)
    head, *faults, hint = done.message.splitlines()
    assert (done.status, head, hint) == (1, f"error: {recipe_file}: 4 faults in the recipe", HINT)
    assert {fault.strip().partition(": ")[0] for fault in faults} == {
        "search.sed", "parents.base", "score.objective.cidr", "evalset.held_out.split",
    }  # fmt: skip


def test_a_guard_that_the_samples_cannot_be_held_to_is_told_with_all_other_faults(
    cli: "Cli", recipe_file: Path, tmp_path: Path
) -> None:
    overrides = ["score.guards={japanese: 90}", "evalset.search.split=search_english", "score.report=[fact]"]
    arguments = [word for override in overrides for word in ("--set", override)]
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "run", *arguments)
    assert done.status == 1
    assert done.message == (
        f"error: {recipe_file}: 2 faults in the recipe\n"
        '  score.report[0]: no metric "fact" (did you mean "facts"?)\n'
        "  score.guards.japanese: the answers to ja-scenes:search_english are to be in `en`; wanted no such key\n"
        f"{HINT}"
    )


def test_a_recipe_that_is_not_there_is_told(cli: "Cli", tmp_path: Path) -> None:
    done = cli.run("evolve", tmp_path / "nope.yaml")
    assert done.status == 1
    assert done.message == (
        f"error: no such recipe: {tmp_path / 'nope.yaml'}\nhint: recipes/ holds recipes to start from"
    )


def test_parents_of_different_shapes_are_told_with_both_shapes(
    cli: "Cli", parents: Path, recipe_file: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "ja-llm"
    broken.mkdir()
    for file in (parents / "ja-llm").iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    tensors = load_file(broken / "model.safetensors")
    for key, tensor in tensors.items():
        if "gate_proj" in key:
            tensors[key] = tensor[:48].clone()
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "run", "--set", f"parents.llms.ja={broken}")
    assert done.status == 1
    assert done.message == (
        "error: parents do not fit: 2 of 21 language slots differ\n"
        "  layers.0.mlp.gate_proj.weight  (48, 32) in `ja`   (64, 32) in `base`\n"
        "hint: all language towers must come from one base model, with equal shapes"
    )
    assert not (tmp_path / "run").exists()


def test_a_parent_that_is_a_file_or_no_checkpoint_is_told(cli: "Cli", recipe_file: Path, tmp_path: Path) -> None:
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "run", "--set", f"parents.base={tmp_path}")
    assert done.status == 1
    assert done.message == f"error: {tmp_path}: no config.json\nhint: give the folder of a Hugging Face checkpoint"
    assert not (tmp_path / "run").exists()


def test_a_hub_id_that_cannot_be_fetched_is_told(cli: "Cli", recipe_file: Path, tmp_path: Path) -> None:
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "run", "--set", "parents.base=no-one/no-such-model")
    head, reason, hint = done.message.splitlines()
    assert done.status == 1 and reason == "  HF_HUB_OFFLINE is set, and the cache has it not"
    assert head == "error: no such checkpoint: no-one/no-such-model is no folder here, and the hub did not give it"
    assert hint == "hint: check the name, or unset HF_HUB_OFFLINE"


def test_more_groups_than_layers_are_told(cli: "Cli", recipe_file: Path, tmp_path: Path) -> None:
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "run", "--set", "blend.depth.groups=3")
    assert done.status == 1
    assert done.message == (
        "error: blend.depth: wanted 3 groups, but the language tower has 2 layers\n"
        "hint: at most `groups: 2`, which is `per_layer`"
    )


def test_more_control_points_than_layers_are_told(cli: "Cli", recipe_file: Path, tmp_path: Path) -> None:
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "run", "--set", "blend.depth={curve: 3}")
    assert done.status == 1
    assert done.message == (
        "error: blend.depth: wanted 3 control points, but the language tower has 2 layers\n"
        "hint: at most `curve: 2`, which is `per_layer`"
    )


def test_a_ratio_for_a_role_that_is_not_there_is_told_before_a_weight_is_read(
    cli: "Cli", recipe_file: Path, tmp_path: Path
) -> None:
    ratios = "blend.ratios={vlm: {weight: 1}, ja: {weight: {q_porj: 1, default: 0}}}"
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "run", "--dry-run", "--set", ratios)
    head, fault, hint = done.message.splitlines()
    assert (done.status, head) == (1, "error: blend.ratios does not fit the language tower")
    assert fault == '  blend.ratios.ja.weight.q_porj: no such part or role (did you mean "q_proj"?)'
    assert hint.startswith("hint: the parts are embeddings, attention, mlp, head; the roles are embed_tokens, ")


def test_a_candidate_is_written_as_a_mergekit_file_that_reads_as_its_very_ratios(
    cli: "Cli", whole_run: "WholeRun", tmp_path: Path
) -> None:
    done = cli.run("export", whole_run.folder, "--mergekit", tmp_path / "best.yaml", "--json")
    assert done.status == 0, done.err
    plan, _, records = open_run(whole_run.folder)
    winner = choose_candidate(records, None)
    assert json.loads(done.out) == {
        "candidate": winner["index"], "score": winner["score"], "out": str(tmp_path / "best.yaml"),
    }  # fmt: skip
    title = f"# Candidate {winner['index']} of {whole_run.folder}, by vlmmerge {__version__}\n"
    assert (tmp_path / "best.yaml").read_text().startswith(title)
    recipe = read_mergekit(tmp_path / "best.yaml")
    assert recipe.blend.method == "dare_ties" and recipe.parents.llms == {"ja-llm": plan.recipe.parents.llms["ja"]}
    assert recipe.blend.ratios is not None
    written = {name: ratio.model_dump() for name, ratio in recipe.blend.ratios.items()}
    found = fixed_ratios(plan.anatomy.slots, ["vlm", "ja-llm"], written)
    for slot, of_parents in plan.space.decode(winner["genome"]).items():
        for parent, name in (("vlm", "vlm"), ("ja", "ja-llm")):
            assert found[slot][name].weight == of_parents[parent].weight
            assert found[slot][name].density == of_parents[parent].density


def test_a_mergekit_file_that_cannot_be_written_is_told(cli: "Cli", whole_run: "WholeRun", tmp_path: Path) -> None:
    done = cli.run("export", whole_run.folder, "--mergekit", tmp_path)
    assert (done.status, done.message) == (
        1,
        f"error: cannot write {tmp_path}: Is a directory\nhint: check --mergekit",
    )


def test_an_export_needs_a_folder_or_a_mergekit_file_to_write(cli: "Cli", whole_run: "WholeRun") -> None:
    done = cli.run("export", whole_run.folder)
    assert done.status == 2 and "one of the arguments --out --mergekit is required" in done.err


def test_a_dry_run_tells_the_cost_and_writes_nothing(cli: "Cli", recipe_file: Path, tmp_path: Path) -> None:
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "run", "--dry-run", "--json")
    assert done.status == 0, done.err
    described = json.loads(done.out)
    assert {"parents", "search space", "search", "memory", "time"} <= set(described)
    assert described["search space"].startswith("16 genes: weight 0 to 1.5, density 0.1 to 1; for each of vlm, ja")
    assert set(described["parents"]) == {"vlm", "base", "ja"}
    table = cli.run("evolve", recipe_file, "--run", tmp_path / "run", "--dry-run")
    assert table.status == 0 and "16 genes" in table.out and "no weights were read" in table.out
    assert not (tmp_path / "run").exists()


def test_a_dry_run_reads_no_weights(cli: "Cli", parents: Path, tmp_path: Path) -> None:
    """The parents' weights are of terabytes here: files with holes, which no machine could read."""
    for name in ("vlm", "base", "ja-llm"):
        (tmp_path / name).mkdir()
        for file in (parents / name).iterdir():
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
        write_hollow_weights(tmp_path / name / "model.safetensors", factor=10**7)
    (tmp_path / "recipe.yaml").write_bytes((parents / "recipe.yaml").read_bytes())
    done = cli.run("evolve", tmp_path / "recipe.yaml", "--run", tmp_path / "run", "--dry-run", "--json")
    assert done.status == 0, done.err
    assert " GiB" in json.loads(done.out)["memory"]


def write_hollow_weights(file: Path, factor: int) -> None:
    """Keep a weight file's keys, make each tensor `factor` times as long, and fill it with a hole."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    end = 0
    for key, entry in header.items():
        if key != "__metadata__":
            first, last = entry["data_offsets"]
            entry["shape"][0] *= factor
            entry["data_offsets"] = [end, end := end + (last - first) * factor]
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    with file.open("r+b") as stream:
        stream.truncate(8 + len(text) + end)


def test_export_writes_the_best_or_any_candidate(cli: "Cli", whole_run: "WholeRun", tmp_path: Path) -> None:
    best = cli.run("export", whole_run.folder, "--out", tmp_path / "best", "--json")
    assert best.status == 0, best.err
    weights = (whole_run.folder / "best" / "model.safetensors").read_bytes()
    assert (tmp_path / "best" / "model.safetensors").read_bytes() == weights
    _, records = read_journal(whole_run.folder / "journal.jsonl")
    candidates = [record for record in records if record["kind"] == "candidate"]
    winner = winner_of("candidate", records)
    assert winner is not None
    assert json.loads(best.out) == {
        "candidate": winner["index"], "score": winner["score"], "out": str(tmp_path / "best"),
    }  # fmt: skip
    other = next(record["index"] for record in candidates if record["score"] < winner["score"])
    done = cli.run("export", whole_run.folder, "--out", tmp_path / "other", "--candidate", other)
    assert done.status == 0 and done.out == "" and done.err.endswith(f"wrote {tmp_path / 'other'}\n")
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != weights
    exported = json.loads((tmp_path / "other" / "vlmmerge.json").read_text(encoding="utf-8"))
    assert exported["candidate"] == candidates[other] and exported["held_out"] == {}


def test_export_tells_what_is_not_there_and_writes_over_nothing(
    cli: "Cli", whole_run: "WholeRun", tmp_path: Path
) -> None:
    done = cli.run("export", whole_run.folder, "--out", tmp_path / "out", "--candidate", 99)
    hint = "hint: `vlmmerge evolve RECIPE --run RUN --resume` goes on"
    assert (done.status, done.message) == (1, f"error: no candidate 99; there are 15\n{hint}")
    done = cli.run("export", tmp_path, "--out", tmp_path / "out")
    hint = "hint: start one without --resume, or check --run"
    assert (done.status, done.message) == (1, f"error: there is no run in {tmp_path}\n{hint}")
    (tmp_path / "thesis.txt").write_text("mine")
    done = cli.run("export", whole_run.folder, "--out", tmp_path)
    message = f"error: {tmp_path} is not empty and no export of vlmmerge\nhint: choose another --out"
    assert (done.status, done.message) == (1, message)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_evaluate_scores_a_runs_best_as_the_run_did(
    cli: "Cli", whole_run: "WholeRun", recipe_file: Path, tmp_path: Path
) -> None:
    arguments = ["--evalset", "ja-scenes", "--samples", 6, "--metric", "cider", "--metric", "japanese"]
    arguments += ["--max-new-tokens", 8, "--out", tmp_path / "answers.json", "--json"]
    done = cli.run("evaluate", whole_run.folder, *arguments)
    assert done.status == 0, done.err
    printed = json.loads(done.out)
    _, records = read_journal(whole_run.folder / "journal.jsonl")
    held_out = records[-1]
    assert held_out["name"] == "best"
    result = printed["ja-scenes:held_out"]["models"][whole_run.folder.name]
    assert [row["answer"] for row in result["answers"]] == held_out["answers"]
    assert result["scores"] == {name: held_out["scores"][name] for name in ("cider", "japanese")}
    assert json.loads((tmp_path / "answers.json").read_text(encoding="utf-8")) == printed


def test_evaluate_prints_scores_intervals_signatures_and_the_worst_answers(cli: "Cli", parents: Path) -> None:
    done = cli.run(
        "evaluate", parents / "vlm", "--evalset", "ja-scenes:held_out_english", "--samples", 4, "--metric", "chrf",
        "--max-new-tokens", 4,
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "ja-scenes:held_out_english" in done.out and "chrf|" in done.out and "vlm: worst answers by chrf" in done.out
    assert done.out.count("held_out-") == 3, "three of the worst are shown"
    assert "paired" not in done.out, "one model has nothing to differ from"


def test_evaluate_puts_models_side_by_side_with_paired_differences(
    cli: "Cli", whole_run: "WholeRun", parents: Path, tmp_path: Path
) -> None:
    models = [parents / "vlm", whole_run.folder]
    arguments = ["--evalset", "ja-scenes", "--samples", 4, "--metric", "chrf", "--max-new-tokens", 8]
    best = whole_run.folder.name
    done = cli.run("evaluate", *models, *arguments, "--out", tmp_path / "both.json")
    assert done.status == 0, done.err
    assert "paired bootstrap" in done.out
    both = json.loads((tmp_path / "both.json").read_text(encoding="utf-8"))["ja-scenes:held_out"]
    first, second = both["models"].values()
    (difference,) = both["differences"].values()
    assert list(both["models"]) == ["vlm", best] and list(both["differences"]) == [best]
    assert difference["chrf"]["value"] == second["scores"]["chrf"]["value"] - first["scores"]["chrf"]["value"]
    assert difference["chrf"]["low"] <= difference["chrf"]["value"] <= difference["chrf"]["high"]
    alone = cli.run("evaluate", whole_run.folder, *arguments, "--json")
    assert json.loads(alone.out)["ja-scenes:held_out"]["models"][best] == second


def test_what_models_came_to_is_kept_and_shown_where_a_later_one_cannot_be_asked(
    cli: "Cli", parents: Path, tmp_path: Path
) -> None:
    """Everything was lost that was not in --out, and nothing told that there was something in it."""
    few = ["--evalset", "ja-scenes", "--samples", 2, "--metric", "chrf", "--max-new-tokens", 4]
    done = cli.run("evaluate", parents / "vlm", parents / "base", *few, "--out", tmp_path / "kept.json")
    assert done.status == 1 and "base: transformers does not load it" in done.message
    assert "vlm: worst answers by chrf" in done.out and "chrf|n:2|" in done.out
    kept = json.loads((tmp_path / "kept.json").read_text(encoding="utf-8"))
    assert list(kept["ja-scenes:held_out"]["models"]) == ["vlm"] and f"wrote {tmp_path / 'kept.json'}" in done.err


def test_evaluate_tells_traits_grounding_and_how_it_asked(cli: "Cli", parents: Path) -> None:
    arguments = ["--evalset", "ja-scenes", "--samples", 3, "--protocol", "evovlm-jp", "--max-new-tokens", 4]
    done = cli.run("evaluate", parents / "vlm", *arguments, "--grounding", "--segmenter", "characters")
    assert done.status == 0, done.err
    for text in (
        "characters", "length ratio", "repetition", "distinct", "grounding (blank)",
        "grounding (other)", "|beams:5|penalty:1.5|max:4|", "|system:", "seg:characters", "rouge_l_strict|",
    ):  # fmt: skip
        assert text in done.out, text


def test_evaluate_tells_what_judge_and_segmenter_lack(cli: "Cli", parents: Path) -> None:
    few = [parents / "vlm", "--evalset", "ja-scenes", "--samples", 2]
    done = cli.run("evaluate", *few, "--judge-url", "http://localhost:1/v1")
    wanted = "error: a judge has an endpoint and a model\nhint: give both --judge-url and --judge-model"
    assert (done.status, done.message) == (1, wanted)
    done = cli.run("evaluate", *few, "--segmenter", "mecab")
    assert done.status == 1 and done.message.startswith("error: unknown segmenter `mecab`\nhint: known: unidic-lite, ")


def test_a_model_that_is_named_twice_is_refused(cli: "Cli", parents: Path) -> None:
    done = cli.run("evaluate", parents / "vlm", parents / "vlm", "--evalset", "ja-scenes")
    assert (done.status, done.message) == (1, f"error: {parents / 'vlm'} is named twice\nhint: name each once")


def test_evaluate_tells_what_it_cannot_do(cli: "Cli", parents: Path, tmp_path: Path) -> None:
    def message(*arguments: object) -> str:
        done = cli.run("evaluate", parents / "vlm", *arguments)
        assert done.status == 1 and done.out == ""
        return done.message

    assert message("--evalset", "ja-scene") == (
        f'error: no evalset "ja-scene"; there are {", ".join(find_evalsets())}\nhint: `vlmmerge evalsets` lists them'
    )
    assert message("--evalset", "ja-scenes:test").startswith('error: no split "test" in ja-scenes; there are search, ')
    unknown = message("--evalset", "ja-scenes", "--samples", 1, "--metric", "cidr")
    assert unknown.startswith("error: unknown metric\n  cidr (did you mean cider?)\nhint: known: cider, ")
    assert message("--evalset", "ja-scenes", "--samples", 600).startswith(
        "error: ja-scenes:held_out has 512 samples, 600 were asked for\nhint: "
    )
    out = tmp_path / "no" / "folder.json"
    few = ["--evalset", "ja-scenes", "--samples", 1, "--metric", "exact", "--max-new-tokens", 1]
    assert message(*few, "--out", out).endswith(
        f"error: cannot write {out}: there is no folder {out.parent}\nhint: check --out"
    )
    assert message(*few, "--out", tmp_path) == f"error: cannot write {tmp_path}: it is a folder\nhint: check --out"


def test_score_prints_what_answers_of_any_tool_are_worth(cli: "Cli", tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    row = '{"question": "何色ですか？", "references": ["赤"], "answer": "%s"}\n'
    good.write_text(row % "赤" + row % "赤。", encoding="utf-8")
    bad.write_text(row % "赤" + row % "[bold]blue[/]", encoding="utf-8")
    arguments = [good, bad, "--metric", "exact", "--metric", "japanese", "--out", tmp_path / "scores.json"]
    done = cli.run("score", *arguments)
    assert done.status == 0, done.err
    for text in ("good.jsonl", "bad.jsonl", "100.0 to 100.0", "-50.0", "exact|n:2|refs:1", "[bold]blue[/]"):
        assert text in done.out
    told = json.loads(cli.run("score", *arguments, "--json").out)
    assert told == json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert told["models"]["bad.jsonl"]["scores"]["exact"]["value"] == 50.0


def test_score_tells_what_it_cannot_read(cli: "Cli", tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('{"answer": "赤"}\n', encoding="utf-8")
    done = cli.run("score", file)
    assert (done.status, done.out) == (1, "")
    assert done.message == (
        f"error: {file}: 1 fault\n  line 1: references: missing, wanted a list of one or more right answers\n"
        "hint: mend the file"
    )


@pytest.mark.parametrize("number", ["0", "-3", "many"])
def test_numbers_below_1_are_wrong_usage(cli: "Cli", parents: Path, number: str) -> None:
    """0 samples ended in a traceback."""
    done = cli.run("evaluate", parents / "vlm", "--evalset", "ja-scenes", "--samples", number)
    assert done.status == 2
    assert done.err.endswith(f"argument --samples: invalid number of at least 1 value: '{number}'\n")


def test_answer_says_what_the_model_says(cli: "Cli", whole_run: "WholeRun", parents: Path, picture: Path) -> None:
    arguments = ["--image", picture, "--question", "何色ですか？", "--max-new-tokens", 8]
    plain, as_json = (cli.run("answer", parents / "vlm", *arguments, *more) for more in ([], ["--json"]))
    assert plain.status == as_json.status == 0, plain.err
    assert json.loads(as_json.out) == {"question": "何色ですか？", "answer": plain.out.rstrip("\n")}
    assert cli.run("answer", whole_run.folder, *arguments).out != plain.out, "of a run, the best is asked"


def test_answer_tells_what_it_cannot_read(
    cli: "Cli", parents: Path, recipe_file: Path, tmp_path: Path, picture: Path
) -> None:
    missing = tmp_path / "nope.png"
    done = cli.run("answer", parents / "vlm", "--image", missing)
    assert done.status == 1
    assert done.message == f"error: cannot read {missing}: No such file or directory\nhint: check --image"
    done = cli.run("answer", parents / "vlm", "--image", recipe_file)
    assert done.status == 1 and done.message.startswith("error: picture of sample image cannot be read: ")
    done = cli.run("answer", tmp_path / "nope", "--image", picture)
    assert done.status == 1 and done.message.startswith(f"error: no such checkpoint: {tmp_path / 'nope'}\n")
    done = cli.run("answer", parents / "base", "--image", picture)
    assert done.status == 1 and done.message.splitlines()[0] == (
        f"error: {parents / 'base'}: transformers does not load it as an image-text-to-text model"
    )


def test_evalsets_lists_what_there_is(cli: "Cli") -> None:
    everything, one = cli.run("evalsets"), cli.run("evalsets", "ja-scenes", "--json")
    assert everything.status == one.status == 0
    at_hand, _, of_hub = everything.out.partition("on the Hugging Face hub, fetched when first asked for")
    assert all(words in at_hand for words in ("ja-scenes\n", "CC0-1.0", "held_out 512", " MB", "captions by cider,"))
    assert all(words in of_hub for words in ("ja-vg-vqa-500\n", "CC-BY-4.0", "search ?", "held_out 500"))
    assert json.loads(one.out)["ja-scenes"]["splits"]["held_out"]["num_samples"] == 512
    shown = cli.run("evalsets", "ja-scenes").out
    assert " MB" in shown and "# ja-scenes" in shown and "…" not in shown  # nothing is cut off
    assert "fetch: hf download --repo-type dataset SakanaAI/JA-VG-VQA-500 " in cli.run("evalsets", "ja-vg-vqa-500").out
    done = cli.run("evalsets", "nope")
    assert (done.status, done.message) == (
        1, f'error: no evalset "nope"; there are {", ".join(find_evalsets())}\n'
        "hint: `vlmmerge evalsets` lists them",
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [[], ["evolv"], ["evolve"], ["export", "run"], ["evolve", "r.yaml", "--oops"]])
def test_wrong_usage_is_exit_2(cli: "Cli", arguments: list[str]) -> None:
    done = cli.run(*arguments)
    assert done.status == 2 and done.out == "" and done.err.startswith("usage: vlmmerge")


def test_a_reader_that_reads_no_further_is_no_traceback() -> None:
    command = [sys.executable, "-m", "vlmmerge.cli", "evalsets", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # as `head` does
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_help_imports_neither_torch_nor_transformers() -> None:
    """They take seconds; `--help` answers at once."""
    code = (
        "import sys\nfrom vlmmerge.cli import main\n"
        "try:\n    main(['--help'])\nfinally:\n"
        "    heavy = {'torch', 'transformers', 'datasets', 'evotorch', 'ray', 'pydantic', 'rich'} & set(sys.modules)\n"
        "    print('imported:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported: []"
    assert all(command in done.stdout for command in COMMANDS)


def test_the_version_is_the_packages() -> None:
    command = [sys.executable, "-m", "vlmmerge.cli", "--version"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"vlmmerge {__version__}\n")
