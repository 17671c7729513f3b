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
from vlmmerge.arguments import make_parser
from vlmmerge.errors import VlmMergeError

if TYPE_CHECKING:
    from vlmmerge.exam import ScoreSettings
    from vlmmerge.inspection import Inspection
    from vlmmerge.recipe import EvalsetChoice, Generate

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
    if parsed.json and result is not None and not _print_json(result):
        return 1
    return int(parsed.command == "inspect" and result["grade"] == "will fail")


def _print_json(result: Any) -> bool:
    """Print one object; False where nobody reads on, such as `head`."""
    try:
        print(json.dumps(result, ensure_ascii=False), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout once more as it ends
        return False
    return True


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
    from vlmmerge.scoreboard import show_guards, show_retention

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
        show_guards(rows)
        show_retention(rows)
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
    from vlmmerge.ask import Questions, evaluate_models

    questions = Questions(
        choices=[_evalset_choice(text, parsed.samples) for text in parsed.evalset],
        metrics=parsed.metric,
        generate=_generate(parsed),
        score=_score_settings(parsed),
        has_grounding=parsed.grounding,
        trusts_code=parsed.trust_remote_code,
    )
    keep, results = _keep_in(parsed.out), dict[str, Any]()

    def keep_all(found: dict[str, Any]) -> None:
        keep(found)
        results.update(found)

    try:
        evaluate_models(_named_folders(parsed.models), questions, keep_all, console.warn)
    finally:  # interrupted, or a model that cannot be loaded: what the models before it came to is shown
        _show_scores(parsed, results)
    return results


def _show_scores(parsed: argparse.Namespace, results: dict[str, Any]) -> None:
    """The tables of each comparison by its title, and where all of it is written."""
    from vlmmerge import console
    from vlmmerge.scoreboard import show_comparison, show_worst

    if parsed.out and results:
        console.show_written([parsed.out])
    if not parsed.json:
        for title, result in results.items():
            show_comparison(title, result)
            show_worst(result)


def run_score(parsed: argparse.Namespace) -> Any:
    from vlmmerge.answers import score_files

    keep = _keep_in(parsed.out)
    names = _short_names([str(file) for file in parsed.answers])
    files = dict(zip(names, parsed.answers, strict=True))
    result = score_files(files, parsed.metric, _score_settings(parsed))
    keep(result)
    first = next(iter(result["models"].values()))
    _show_scores(parsed, {f"{len(first['answers'])} answers": result})
    return result


def run_answer(parsed: argparse.Namespace) -> Any:
    from vlmmerge.ask import answer_one
    from vlmmerge.evalsets.pictures import read_picture_file

    image, folder = read_picture_file(parsed.image), _model_folder(parsed.model)
    trusts_code = parsed.trust_remote_code
    answer = answer_one(folder, image, parsed.question, _generate(parsed), trusts_code=trusts_code)
    if not parsed.json:
        print(answer)
    return {"question": parsed.question, "answer": answer}


def run_swap_vision(parsed: argparse.Namespace) -> Any:
    from vlmmerge import console
    from vlmmerge.backbone.gate import Gate
    from vlmmerge.backbone.processes import crew
    from vlmmerge.backbone.swap import Refit, swap_donor, swap_encoder
    from vlmmerge.scoreboard import show_swap

    if bool(parsed.encoder) != bool(parsed.images):
        raise VlmMergeError("--encoder and --images go together", hint="--images is a folder of unlabelled pictures")
    if parsed.donor and parsed.captions:
        raise VlmMergeError("--captions goes with --encoder", hint="a donor's projector is taken over as it is")
    gate = None
    if parsed.evalset != "none":
        choice = _evalset_choice(parsed.evalset, parsed.samples)
        gate = Gate(choice, _generate(parsed), parsed.max_loss, parsed.force)
    model, watcher = str(_model_folder(parsed.model)), console.watch_swap(crew().is_main_process)
    if parsed.donor:
        told = swap_donor(model, parsed.donor, parsed.out, gate, watcher)
    else:
        layers = tuple(parsed.layer) if parsed.layer else None
        is_old, has_polish = parsed.grid == "old", parsed.fit == "two-layer"
        captions = _evalset_choice(parsed.captions, None) if parsed.captions else None
        refit = Refit(parsed.encoder, parsed.images, parsed.pictures, is_old, layers, has_polish, captions)
        told = swap_encoder(model, refit, parsed.out, gate, watcher)
    if told is None:
        return None
    if not parsed.json:
        show_swap(told)
    console.show_written([parsed.out])
    return {"out": str(parsed.out), **told}


def run_evalsets(parsed: argparse.Namespace) -> Any:
    from vlmmerge import console
    from vlmmerge.evalsets import describe

    described = describe(parsed.name)
    if not parsed.json:
        if parsed.name:
            console.show_one_evalset(parsed.name, described[parsed.name])
        else:
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


def _model_folder(where: str) -> Path:
    """The checkpoint's folder; of a run's folder, the best candidate's."""
    from vlmmerge.checkpoint import open_checkpoint

    best = Path(where) / "best"
    return open_checkpoint(best if (best / "config.json").exists() else where).folder


def _evalset_choice(text: str, samples: int | None) -> "EvalsetChoice":
    from vlmmerge.evalsets import parse_choice
    from vlmmerge.recipe import EvalsetChoice

    name, split = parse_choice(text)
    return EvalsetChoice(name=name, split=split, samples=samples)


def _generate(parsed: argparse.Namespace) -> "Generate":
    from vlmmerge.recipe import Generate

    longest = {"max_new_tokens": parsed.max_new_tokens} if parsed.max_new_tokens else {}
    return Generate.model_validate({"protocol": parsed.protocol, **longest})


def _score_settings(parsed: argparse.Namespace) -> "ScoreSettings":
    from vlmmerge.exam import ScoreSettings
    from vlmmerge.score import Judge

    if bool(parsed.judge_url) != bool(parsed.judge_model):
        raise VlmMergeError("a judge has an endpoint and a model", hint="give both --judge-url and --judge-model")
    judge = Judge(parsed.judge_url, parsed.judge_model, parsed.judge_sees) if parsed.judge_url else None
    return ScoreSettings(parsed.segmenter, parsed.clip, judge)


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
    "swap-vision": run_swap_vision,
    "evalsets": run_evalsets,
}

if __name__ == "__main__":
    sys.exit(main())
