"""The command line: parse, call, print. `vlmmerge --help` must answer at once, so everything heavy is imported late.

Exit status: 0 done, 1 the user's fault (a message, no traceback), 2 wrong usage, 130 interrupted.
"""

import argparse
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmmerge import __version__
from vlmmerge.errors import VlmMergeError

if TYPE_CHECKING:
    from vlmmerge.inspection import Inspection

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parsed = make_parser().parse_args(arguments)
    _quieten_libraries()
    try:
        result = COMMANDS[parsed.command](parsed)
    except VlmMergeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted{_how_to_go_on(parsed)}", file=sys.stderr)
        return INTERRUPTED
    if parsed.json:
        print(json.dumps(result, ensure_ascii=False))
    return int(parsed.command == "inspect" and result["grade"] == "will fail")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="vlmmerge", description="Evolve a vision-language model that speaks Japanese, without training."
    )
    parser.add_argument("--version", action="version", version=f"vlmmerge {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    loading = argparse.ArgumentParser(add_help=False)
    loading.add_argument(
        "--trust-remote-code", action="store_true",
        help="run code that comes with a model where transformers has no class of its own for it",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    inspect = commands.add_parser(
        "inspect", parents=[common], help="tell what checkpoints are made of, and whether they fit as parents"
    )
    inspect.add_argument(
        "parents",
        nargs="+",
        metavar="PARENT",
        help="a folder or hub id; of three or more, an LLM at the end is the base",
    )
    inspect.add_argument("--base", metavar="MODEL", help="the common ancestor of the language towers")
    inspect.add_argument(
        "--deltas", action="store_true", help="read all weights, and tell by how much they differ and where"
    )

    evolve = commands.add_parser(
        "evolve", parents=[common, loading], help="search for the ratios of a recipe, and export the best"
    )
    evolve.add_argument("recipe", type=Path, metavar="RECIPE")
    evolve.add_argument(
        "--run", type=Path, metavar="DIR", help="the run's folder (default: runs/ and the recipe's name)"
    )
    evolve.add_argument("--resume", action="store_true", help="go on with a run that was interrupted, or prolong it")
    evolve.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key, such as search.seed=3"
    )
    evolve.add_argument(
        "--start-from",
        type=Path,
        metavar="RUN",
        help="start at the best candidate of another run, such as a coarser one",
    )
    evolve.add_argument(
        "--no-self-test",
        dest="self_test",
        action="store_false",
        help="do not load the export in a new process at the end",
    )
    evolve.add_argument("--dry-run", action="store_true", help="check everything and tell the cost; read no weights")

    blend = commands.add_parser("blend", parents=[common], help="blend by a recipe's fixed ratios, file to file")
    whence = blend.add_mutually_exclusive_group(required=True)
    whence.add_argument("recipe", type=Path, nargs="?", metavar="RECIPE")
    whence.add_argument("--from-mergekit", type=Path, metavar="FILE", help="a mergekit file in place of a recipe")
    blend.add_argument(
        "--vlm", metavar="MODEL", help="the VLM, where a mergekit file does not tell (its own otherwise)"
    )
    blend.add_argument("--out", type=Path, required=True, metavar="DIR")
    blend.add_argument("--push", metavar="HUB_ID", help="upload the folder to the hub as well, as a private model")
    blend.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key, such as blend.seed=3"
    )

    export = commands.add_parser(
        "export",
        parents=[common, loading],
        help="write a candidate as a Hugging Face folder, or its ratios as a mergekit file",
    )
    export.add_argument("run", type=Path, metavar="RUN")
    what = export.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="DIR", help="the Hugging Face folder")
    what.add_argument("--mergekit", type=Path, metavar="FILE", help="the mergekit file, of the language towers")
    export.add_argument("--push", metavar="HUB_ID", help="upload the folder to the hub as well, as a private model")
    export.add_argument("--candidate", type=int, metavar="N", help="its number in the journal (default: the best)")

    evaluate = commands.add_parser("evaluate", parents=[common, loading], help="score models on evalsets, side by side")
    evaluate.add_argument(
        "models", nargs="+", metavar="MODEL", help="a Hugging Face folder, a hub id, or a run's folder (its best)"
    )
    evaluate.add_argument(
        "--evalset",
        action="append",
        required=True,
        metavar="NAME[:SPLIT]",
        help="the split is held_out by default; for your own pictures the path of a folder with a JSONL, or of parquet",
    )
    evaluate.add_argument(
        "--metric", action="append", default=[], metavar="NAME", help="default: every metric that the evalset allows"
    )
    evaluate.add_argument("--samples", type=_at_least_1, metavar="N", help="the first N samples only")
    evaluate.add_argument("--max-new-tokens", type=_at_least_1, default=64, metavar="N")
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="write every answer and score as JSON")

    score = commands.add_parser("score", parents=[common], help="score answers that any tool made, side by side")
    score.add_argument(
        "answers", nargs="+", type=Path, metavar="ANSWERS.jsonl",
        help='rows {"answer": ..., "references": [...]}, and if there are "question", "id", "options", "facts"',
    )  # fmt: skip
    score.add_argument(
        "--metric", action="append", default=[], metavar="NAME", help="default: those for the rows' kind"
    )
    score.add_argument("--out", type=Path, metavar="FILE", help="write every score as JSON")

    answer = commands.add_parser("answer", parents=[common, loading], help="ask a model about one picture")
    answer.add_argument("model", metavar="MODEL", help="a Hugging Face folder, a hub id, or a run's folder (its best)")
    answer.add_argument("--image", type=Path, required=True, metavar="FILE")
    answer.add_argument("--question", default="画像を説明してください。", metavar="TEXT")
    answer.add_argument("--max-new-tokens", type=_at_least_1, default=64, metavar="N")

    evalsets = commands.add_parser("evalsets", parents=[common], help="list the evaluation sets, or show one")
    evalsets.add_argument("name", nargs="?", metavar="NAME")
    return parser


def run_inspect(parsed: argparse.Namespace) -> Any:
    from vlmmerge import tables
    from vlmmerge.inspection import describe, inspect

    inspection = inspect(parsed.parents, parsed.base, has_weights=parsed.deltas)
    described = describe(inspection)
    if not parsed.json:
        tables.show_inspection(described)
    if parsed.deltas and (deltas := _compare(inspection)):
        described["deltas"] = deltas
        if not parsed.json:
            tables.show_deltas(deltas)
    if not parsed.json:
        tables.show_conclusion(described)
    return described


def _compare(inspection: "Inspection") -> dict[str, Any] | None:
    from vlmmerge import console
    from vlmmerge.inspection.deltas import compare, num_bytes_compared, paired_towers
    from vlmmerge.inspection.verdict import describe_deltas

    if (towers := paired_towers(inspection)) is None:
        console.warn("no task vectors: the parents do not fit")
        return None
    with console.watch_bytes("comparing", num_bytes_compared(towers)) as advance:
        return describe_deltas(inspection.lineup, compare(towers, advance))


def run_evolve(parsed: argparse.Namespace) -> Any:
    from vlmmerge import console, summary
    from vlmmerge.evalsets import known_splits
    from vlmmerge.plan import guard_faults, make_plan
    from vlmmerge.recipe import check_names, load_recipe, missing_for_evolve
    from vlmmerge.run import BEST, JOURNAL, Run, start_from
    from vlmmerge.score import METRICS

    recipe = load_recipe(
        parsed.recipe,
        parsed.set,
        lambda r: missing_for_evolve(r) + check_names(r, METRICS, known_splits(r.evalset_names)) + guard_faults(r),
    )
    plan = make_plan(recipe, has_weights=not parsed.dry_run, trusts_code=parsed.trust_remote_code)
    start = start_from(plan, parsed.start_from) if parsed.start_from else None
    if parsed.dry_run:
        from vlmmerge.estimate import describe_plan

        described = describe_plan(plan)
        if not parsed.json:
            console.show_plan(described)
        return described
    folder = _run_folder(parsed)
    if start:
        console.say(f"starting at candidate {start['candidate']} of {parsed.start_from}")
    with console.watch() as watcher:
        run = Run(plan, folder, watcher, start)
        records = run.evolve(resume=parsed.resume)
        num_checked = run.check_best(records) if parsed.self_test else None
    if num_checked is not None:
        console.say(f"it gives {num_checked} answers, all as they were in the search")
    rows = summary.held_out_rows(plan, records)
    samples = summary.sample_answers(plan, records)
    if not parsed.json:
        console.show_table(rows, summary.metrics_of(plan))
        console.show_samples(samples)
        console.show_written([folder / JOURNAL, folder / BEST])
    best = str(folder / BEST)
    return {"run": str(folder), "best": best, "checked_answers": num_checked, "held_out": rows, "samples": samples}


def run_blend(parsed: argparse.Namespace) -> Any:
    from vlmmerge import console
    from vlmmerge.blend import METHODS
    from vlmmerge.export import export_blend, num_bytes_written
    from vlmmerge.export.push import check_hub_id
    from vlmmerge.mergekit import read_mergekit
    from vlmmerge.plan import make_plan
    from vlmmerge.recipe import load_recipe, missing_for_blend

    if parsed.from_mergekit and parsed.set:
        raise VlmMergeError("--set overrides a recipe's keys", hint="change the mergekit file, or write a recipe")
    if parsed.recipe and parsed.vlm:
        raise VlmMergeError("--vlm goes with --from-mergekit", hint="use --set parents.vlm=MODEL")
    if parsed.push:
        check_hub_id(parsed.push)
    recipe = (
        read_mergekit(parsed.from_mergekit, parsed.vlm)
        if parsed.from_mergekit
        else load_recipe(parsed.recipe, parsed.set, lambda r: missing_for_blend(r, METHODS[r.blend.method].parameters))
    )
    plan = make_plan(recipe.model_copy(update={"evalset": None, "score": None}))  # nothing is scored
    with console.watch_export("blending", num_bytes_written(plan)) as watcher:
        export_blend(plan, parsed.out, watcher)
    console.show_written([parsed.out])
    result = {"out": str(parsed.out), "method": recipe.blend.method, "num_bytes": num_bytes_written(plan)}
    return result | _pushed(parsed)


def run_export(parsed: argparse.Namespace) -> Any:
    from vlmmerge import console
    from vlmmerge.export import num_bytes_written
    from vlmmerge.export.push import check_hub_id
    from vlmmerge.export.selftest import check_export
    from vlmmerge.run import as_mergekit_file, choose_candidate, export_candidate, open_run

    if parsed.push and parsed.mergekit:
        raise VlmMergeError("--push uploads a Hugging Face folder", hint="use it with --out")
    if parsed.push:
        check_hub_id(parsed.push)
    plan, header, records = open_run(parsed.run, trusts_code=parsed.trust_remote_code)
    candidate = choose_candidate(records, parsed.candidate)
    if parsed.mergekit:
        title = f"Candidate {candidate['index']} of {parsed.run}, by vlmmerge {__version__}"
        _write_text(parsed.mergekit, as_mergekit_file(plan, candidate, title), "--mergekit")
    else:
        with console.watch_export("exporting", num_bytes_written(plan)) as watcher:
            export_candidate(plan, header, records, candidate, parsed.out, watcher)
        console.say("asking it in a new process ...")
        num_answers = check_export(parsed.out, plan.recipe, candidate, trusts_code=plan.trusts_code)
        console.say(f"it gives {num_answers} answers, all as they were in the search")
    out = parsed.mergekit or parsed.out
    console.show_written([out])
    result = {"candidate": candidate["index"], "score": candidate["score"], "out": str(out)}
    return result | _pushed(parsed)


def run_evaluate(parsed: argparse.Namespace) -> Any:
    from vlmmerge import console
    from vlmmerge.ask import evaluate_models
    from vlmmerge.evalsets import parse_choice
    from vlmmerge.recipe import EvalsetChoice, Generate
    from vlmmerge.scoreboard import show_comparison, show_worst

    choices = []
    for text in parsed.evalset:
        name, split = parse_choice(text)
        choices.append(EvalsetChoice(name=name, split=split, samples=parsed.samples))
    models = _named_folders(parsed.models)
    keep = _keep_in(parsed.out)
    settings, trusts_code = Generate(max_new_tokens=parsed.max_new_tokens), parsed.trust_remote_code
    results = evaluate_models(
        models, choices, parsed.metric, settings, trusts_code=trusts_code, keep=keep, warn=console.warn
    )
    if parsed.out:
        console.show_written([parsed.out])
    if not parsed.json:
        for name, result in results.items():
            show_comparison(name, result)
            show_worst(result)
    return results


def run_score(parsed: argparse.Namespace) -> Any:
    from vlmmerge import console
    from vlmmerge.answers import score_files
    from vlmmerge.scoreboard import show_comparison, show_worst

    keep = _keep_in(parsed.out)
    names = _short_names([str(file) for file in parsed.answers])
    result = score_files(dict(zip(names, parsed.answers, strict=True)), parsed.metric)
    keep(result)
    if parsed.out:
        console.show_written([parsed.out])
    if not parsed.json:
        show_comparison(f"{len(next(iter(result['models'].values()))['answers'])} answers", result)
        show_worst(result)
    return result


def run_answer(parsed: argparse.Namespace) -> Any:
    from vlmmerge.ask import answer_one
    from vlmmerge.evalsets.pictures import read_picture_file
    from vlmmerge.recipe import Generate

    image, folder = read_picture_file(parsed.image), _model_folder(parsed.model)
    trusts_code = parsed.trust_remote_code
    settings = Generate(max_new_tokens=parsed.max_new_tokens)
    answer = answer_one(folder, image, parsed.question, settings, trusts_code=trusts_code)
    if not parsed.json:
        print(answer)
    return {"question": parsed.question, "answer": answer}


def run_evalsets(parsed: argparse.Namespace) -> Any:
    from vlmmerge import console
    from vlmmerge.evalsets import describe

    described = describe(parsed.name)
    if not parsed.json:
        console.show_evalsets(described)
    return described


def _pushed(parsed: argparse.Namespace) -> dict[str, str]:
    """Upload the folder if so wanted, and tell the address."""
    if not parsed.push:
        return {}
    from vlmmerge import console
    from vlmmerge.export.push import push

    address = push(parsed.out, parsed.push, console.say)
    console.say(f"uploaded to {address}")
    return {"pushed": address}


def _write_text(file: Path, text: str, option: str) -> None:
    beside = file.with_name(file.name + ".tmp")  # an interrupt leaves the old file or the new one, never half of either
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)
    except OSError as error:
        raise VlmMergeError(f"cannot write {file}: {error.strerror}", hint=f"check {option}") from None


def _run_folder(parsed: argparse.Namespace) -> Path:
    return parsed.run or Path("runs") / parsed.recipe.stem


def _how_to_go_on(parsed: argparse.Namespace) -> str:
    """The command that resumes an interrupted evolution, overrides and all; empty where there is nothing to resume."""
    if parsed.command != "evolve" or not (_run_folder(parsed) / "journal.jsonl").exists():
        return ""
    overrides = [word for override in parsed.set for word in ("--set", override)]
    trusting = ["--trust-remote-code"] if parsed.trust_remote_code else []
    run = ["--run", str(_run_folder(parsed))]
    words = ["vlmmerge", "evolve", str(parsed.recipe), *run, *overrides, *trusting, "--resume"]
    return f"; go on with: {shlex.join(words)}"


def _at_least_1(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(number)
    return number


_at_least_1.__name__ = "number of at least 1"  # argparse: "invalid number of at least 1 value: '0'"


def _model_folder(where: str) -> Path:
    """The checkpoint's folder; of a run's folder, the best candidate's."""
    from vlmmerge.checkpoint import open_checkpoint

    best = Path(where) / "best"
    return open_checkpoint(best if (best / "config.json").exists() else where).folder


def _named_folders(places: Sequence[str]) -> dict[str, Path]:
    """The checkpoints' folders by short names."""
    return {name: _model_folder(place) for name, place in zip(_short_names(places), places, strict=True)}


def _short_names(places: Sequence[str]) -> Sequence[str]:
    """The last parts of what was typed, or all of it where two are alike."""
    if repeated := [place for place, number in Counter(places).items() if number > 1]:
        raise VlmMergeError(f"{repeated[0]} is named twice", hint="name each once")
    short = [Path(place).name or place for place in places]
    return short if len(set(short)) == len(short) else places


def _keep_in(file: Path | None) -> Callable[[Any], None]:
    """What writes results into a file, again and again; that it can be written is known before the work begins."""
    if file is None:
        return lambda results: None
    if file.is_dir() or not file.absolute().parent.is_dir():
        reason = "it is a folder" if file.is_dir() else f"there is no folder {file.parent}"
        raise VlmMergeError(f"cannot write {file}: {reason}", hint="check --out")

    def keep(results: Any) -> None:
        _write_text(file, json.dumps(results, ensure_ascii=False, indent=2) + "\n", "--out")

    return keep


def _quieten_libraries() -> None:
    """Progress and errors are told by this program; libraries' bars and notices stay out of its output."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")


COMMANDS = {
    "inspect": run_inspect,
    "evolve": run_evolve,
    "blend": run_blend,
    "export": run_export,
    "evaluate": run_evaluate,
    "score": run_score,
    "answer": run_answer,
    "evalsets": run_evalsets,
}

if __name__ == "__main__":
    sys.exit(main())
