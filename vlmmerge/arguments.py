"""What can be typed: every command with its options. `vlmmerge --help` must answer at once: nothing heavy is imported.

Knows argparse. Does not know what a command does.
"""

import argparse
from pathlib import Path
from typing import Any

from vlmmerge import __version__

MODEL = "a Hugging Face folder, a hub id, or a run's folder (its best)"


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="vlmmerge", description="Evolve a vision-language model that speaks Japanese, without training."
    )
    parser.add_argument("--version", action="version", version=f"vlmmerge {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    adding = (
        add_inspect, add_evolve, add_blend, add_export, add_evaluate, add_score, add_answer, add_swap_vision,
        add_evalsets,
    )  # fmt: skip
    for add in adding:
        add(commands)
    return parser


def add_inspect(commands: Any) -> None:
    told = "tell what checkpoints are made of, and whether they fit as parents"
    inspect = commands.add_parser("inspect", parents=[_common()], help=told)
    among = "a folder or hub id; of three or more, an LLM at the end is the base"
    inspect.add_argument("parents", nargs="+", metavar="PARENT", help=among)
    inspect.add_argument("--base", metavar="MODEL", help="the common ancestor of the language towers")
    deltas = "read all weights, and tell by how much they differ and where"
    inspect.add_argument("--deltas", action="store_true", help=deltas)


def add_evolve(commands: Any) -> None:
    told = "search for the ratios of a recipe, and export the best"
    evolve = commands.add_parser("evolve", parents=[_common(), _loading()], help=told)
    evolve.add_argument("recipe", type=Path, metavar="RECIPE")
    run = "the run's folder (default: runs/ and the recipe's name)"
    evolve.add_argument("--run", type=Path, metavar="DIR", help=run)
    evolve.add_argument("--resume", action="store_true", help="go on with a run that was interrupted, or prolong it")
    _add_set(evolve, "search.seed=3")
    start = "start at the best candidate of another run, such as a coarser one"
    evolve.add_argument("--start-from", type=Path, metavar="RUN", help=start)
    no_test = "do not load the export in a new process at the end"
    evolve.add_argument("--no-self-test", dest="self_test", action="store_false", help=no_test)
    evolve.add_argument("--dry-run", action="store_true", help="check everything and tell the cost; read no weights")


def add_blend(commands: Any) -> None:
    blend = commands.add_parser("blend", parents=[_common()], help="blend by a recipe's fixed ratios, file to file")
    whence = blend.add_mutually_exclusive_group(required=True)
    whence.add_argument("recipe", type=Path, nargs="?", metavar="RECIPE")
    whence.add_argument("--from-mergekit", type=Path, metavar="FILE", help="a mergekit file in place of a recipe")
    vlm = "the VLM, where a mergekit file does not tell (its own otherwise)"
    blend.add_argument("--vlm", metavar="MODEL", help=vlm)
    blend.add_argument("--out", type=Path, required=True, metavar="DIR")
    _add_push(blend)
    _add_set(blend, "blend.seed=3")


def add_export(commands: Any) -> None:
    told = "write a candidate as a Hugging Face folder, or its ratios as a mergekit file"
    export = commands.add_parser("export", parents=[_common(), _loading()], help=told)
    export.add_argument("run", type=Path, metavar="RUN")
    what = export.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="DIR", help="the Hugging Face folder")
    what.add_argument("--mergekit", type=Path, metavar="FILE", help="the mergekit file, of the language towers")
    _add_push(export)
    export.add_argument("--candidate", type=int, metavar="N", help="its number in the journal (default: the best)")


def add_evaluate(commands: Any) -> None:
    told = "score models on evalsets, side by side"
    evaluate = commands.add_parser("evaluate", parents=[_common(), _loading(), _asking(), _scoring()], help=told)
    evaluate.add_argument("models", nargs="+", metavar="MODEL", help=MODEL)
    evalset = "the split is held_out by default; for your own, the path of a folder with a JSONL, or of parquet"
    evaluate.add_argument("--evalset", action="append", required=True, metavar="NAME[:SPLIT]", help=evalset)
    evaluate.add_argument("--samples", type=at_least_1, metavar="N", help="the first N samples only")
    grounding = "ask again with blank and with other pictures: what is still right needs no eyes"
    evaluate.add_argument("--grounding", action="store_true", help=grounding)


def add_score(commands: Any) -> None:
    told = "score answers that any tool made, side by side"
    score = commands.add_parser("score", parents=[_common(), _scoring()], help=told)
    rows = 'rows {"answer": ..., "references": [...]}, and if there are "question", "id", "options", "facts"'
    score.add_argument("answers", nargs="+", type=Path, metavar="ANSWERS.jsonl", help=rows)


def add_answer(commands: Any) -> None:
    told = "ask a model about one picture"
    answer = commands.add_parser("answer", parents=[_common(), _loading(), _asking()], help=told)
    answer.add_argument("model", metavar="MODEL", help=MODEL)
    answer.add_argument("--image", type=Path, required=True, metavar="FILE")
    answer.add_argument("--question", default="画像を説明してください。", metavar="TEXT")


def add_swap_vision(commands: Any) -> None:
    told = "give a VLM other eyes: another VLM's, or a vision encoder's"
    swap = commands.add_parser("swap-vision", parents=[_common(), _asking()], help=told)
    swap.add_argument("model", metavar="MODEL", help=MODEL)
    whose = swap.add_mutually_exclusive_group(required=True)
    whose.add_argument("--donor", metavar="VLM", help="another VLM, with a language tower of the same shape")
    whose.add_argument("--encoder", metavar="VISION", help="a vision encoder, for which a projector is fitted")
    swap.add_argument("--images", type=Path, metavar="DIR", help="with --encoder: a folder of unlabelled pictures")
    swap.add_argument("--out", type=Path, required=True, metavar="DIR")
    swap.add_argument("--pictures", type=at_least_1, default=2000, metavar="N", help="use at most N (default: 2000)")
    grid = "as many tokens as the encoder gives, or as the old eyes gave (default: old)"
    swap.add_argument("--grid", choices=["new", "old"], default="old", help=grid)
    layer = "take features of layer N (-1: the last); repeat for several (default: what serves best)"
    swap.add_argument("--layer", type=int, action="append", metavar="N", help=layer)
    fit = "stop at the closed form, or fit a two-layer projector further (default: closed)"
    swap.add_argument("--fit", choices=["closed", "two-layer"], default="closed", help=fit)
    captions = "captions that the projector learns from in the end: an evalset's split, or a JSONL or parquet file"
    swap.add_argument("--captions", metavar="NAME:SPLIT", help=captions)
    evalset = "what old and new eyes are scored on, or `none` (default: ja-scenes)"
    swap.add_argument("--evalset", default="ja-scenes", metavar="NAME[:SPLIT]", help=evalset)
    swap.add_argument("--samples", type=at_least_1, metavar="N", help="the first N samples only")
    loss = "refuse to lose more of the score (default: 0.15)"
    swap.add_argument("--max-loss", type=float, default=0.15, metavar="SHARE", help=loss)
    swap.add_argument("--force", action="store_true", help="write it whatever it loses")


def add_evalsets(commands: Any) -> None:
    evalsets = commands.add_parser("evalsets", parents=[_common()], help="list the evaluation sets, or show one")
    evalsets.add_argument("name", nargs="?", metavar="NAME")


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    return common


def _loading() -> argparse.ArgumentParser:
    loading = argparse.ArgumentParser(add_help=False)
    trust = "run code that comes with a model where transformers has no class of its own for it"
    loading.add_argument("--trust-remote-code", action="store_true", help=trust)
    return loading


def _asking() -> argparse.ArgumentParser:
    asking = argparse.ArgumentParser(add_help=False)
    protocol = "how to ask: greedy, or as the published scores were made (default: greedy)"
    asking.add_argument("--protocol", choices=["greedy", "evovlm-jp"], default="greedy", help=protocol)
    longest = "the longest answer (default: 64, or the protocol's)"
    asking.add_argument("--max-new-tokens", type=at_least_1, metavar="N", help=longest)
    return asking


def _scoring() -> argparse.ArgumentParser:
    scoring = argparse.ArgumentParser(add_help=False)
    metric = "default: the protocol's, or the evalset's usual ones and what its samples allow beside"
    scoring.add_argument("--metric", action="append", default=[], metavar="NAME", help=metric)
    words = "what makes words: unidic-lite, ipadic, sudachi[-a|-b|-c] or characters (default: unidic-lite)"
    scoring.add_argument("--segmenter", default="unidic-lite", metavar="NAME", help=words)
    scoring.add_argument("--clip", metavar="MODEL", help="a CLIP-like model, for clipscore and refclipscore")
    judge = "an OpenAI-compatible endpoint, for judge and judge_heron; the key is in OPENAI_API_KEY"
    scoring.add_argument("--judge-url", metavar="URL", help=judge)
    scoring.add_argument("--judge-model", metavar="NAME", help="the name of a model there")
    scoring.add_argument("--judge-sees", action="store_true", help="send the pictures to the judge too")
    scoring.add_argument("--out", type=Path, metavar="FILE", help="write every answer and score as JSON")
    return scoring


def _add_push(command: argparse.ArgumentParser) -> None:
    push = "upload the folder to the hub as well, as a private model"
    command.add_argument("--push", metavar="HUB_ID", help=push)


def _add_set(command: argparse.ArgumentParser, example: str) -> None:
    told = f"override a key, such as {example}"
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=told)


def at_least_1(text: str) -> int:
    """A whole number of 1 or more."""
    if (number := int(text)) < 1:
        raise ValueError(number)
    return number


at_least_1.__name__ = "number of at least 1"  # argparse: "invalid number of at least 1 value: '0'"
