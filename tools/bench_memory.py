"""Measure what memory of the host an evolution takes: `python tools/bench_memory.py --work DIR`.

Three random parents of 0.41 GiB each, with the bundled demo's tokenizer and chat template, are evolved by `vlmmerge
evolve` in a process of its own: a few candidates, finals, held-out scores and the export. (Its self-test, which comes
when all models are let go, is left out.) Its memory is looked at many times a second: anonymous pages, which are its
own, and those of mapped files, which the system takes back when it needs them. The same run with parents of a
thousandth of that size tells what interpreter, libraries and work take. What is above that is held against the bytes
that a search needs: every parent's language tower, and the live model.

A figure that was not reached is printed as such. The parents stay in DIR: 1.3 GB. Linux only.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import load_recipe

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "recipes" / "demo-parents"
PARENTS = ("base", "ja-llm", "vlm")
LARGE = {"hidden_size": 1024, "intermediate_size": 3584, "num_hidden_layers": 16}
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 16, "num_key_value_heads": 4}
RECIPE = """
parents: {vlm: vlm, base: base, llms: {ja: ja-llm}}
blend: {method: dare_ties, depth: {groups: 2}}
evalset:
  search: {name: ja-scenes, split: search, samples: 8}
  finals: {name: ja-scenes, split: search, samples: 8}
  held_out: {name: ja-scenes, split: held_out, samples: 8}
generate: {question: 画像を説明してください。, max_new_tokens: 16, batch_tokens: 4096, device: cpu}
score: {objective: {chrf: 1.0}}
search: {evaluations: 3, seed: 0, finalists: 1}
"""
EVERY = 0.02  # seconds
WANTED = 1.2
MIB, GIB = 2**20, 2**30
KINDS = ("RssAnon", "RssFile", "RssShmem")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the parents; it is made")
    parser.add_argument("--set", action="append", default=[], help="as of `vlmmerge evolve`, such as blend.method=ties")
    parser.add_argument("--trace", type=Path, help="write each look at the memory to a file, as TSV")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()
    peaks = {}
    for name, shape in (("small", SMALL), ("large", LARGE)):
        folder = arguments.work / name
        write_parents(folder, shape)
        peaks[name] = measure(folder, arguments.set, arguments.trace if name == "large" else None)
    plan = make_plan(load_recipe(arguments.work / "large" / "recipe.yaml", arguments.set))
    figures = against(peaks, plan)
    if arguments.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        print(f"{key:>28}  {value}")


def against(peaks: Mapping[str, Mapping[str, int]], plan: Plan) -> dict[str, Any]:
    """The peaks beside the bytes that parents and live model have."""
    needed = plan.tower_bytes + plan.eyes.num_bytes
    small, large = peaks["small"], peaks["large"]
    above = large["total"] - small["total"]
    of_own = large["RssAnon"] - small["RssAnon"]
    return {
        "parents' language towers": f"{plan.tower_bytes / GIB:.2f} GiB",
        "live model": f"{plan.eyes.num_bytes / GIB:.2f} GiB",
        "peak, libraries included": f"{large['total'] / GIB:.2f} GiB",
        "of it anonymous": f"{large['RssAnon'] / GIB:.2f} GiB at its own peak",
        "of it mapped files": f"{large['RssFile'] / GIB:.2f} GiB at its own peak",
        "peak with tiny parents": f"{small['total'] / GIB:.2f} GiB ({small['RssAnon'] / GIB:.2f} anonymous)",
        "above that": f"{above / GIB:.2f} GiB ({of_own / GIB:.2f} anonymous)",
        "of parents and live model": f"{above / needed:.2f} x, wanted <= {WANTED} x"
        + ("" if above <= WANTED * needed else ": NOT REACHED"),
        "anonymous alone": f"{of_own / needed:.2f} x",
    }


def write_parents(folder: Path, shape: Mapping[str, int]) -> None:
    """Write the demo's parents with other language towers, of random weights, and a recipe; once."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    if not (folder / "vlm").exists():
        write_models(folder, shape)


@torch.no_grad()
def write_models(folder: Path, shape: Mapping[str, int]) -> None:
    """Write three checkpoints in bfloat16, the VLM last."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    head_dim = shape["hidden_size"] // HEADS["num_attention_heads"]
    configs = {name: AutoConfig.from_pretrained(DEMO / name) for name in PARENTS}
    for config in configs.values():
        config.get_text_config().update({**shape, **HEADS, "head_dim": head_dim})
        config.update({"dtype": "bfloat16"})
    torch.manual_seed(0)
    llm = AutoModelForCausalLM.from_config(configs["base"], dtype=torch.bfloat16)
    for name in PARENTS:
        model = llm
        if name == "vlm":
            model = AutoModelForImageTextToText.from_config(configs[name], dtype=torch.bfloat16)
            model.get_decoder().load_state_dict(llm.get_decoder().state_dict())
            model.lm_head.load_state_dict(llm.lm_head.state_dict())
        for parameter in model.get_decoder().parameters() if name != "base" else ():
            parameter.add_(0.002 * torch.randn(parameter.shape, dtype=parameter.dtype))
        ignored = shutil.ignore_patterns("*.safetensors", "config.json", "README.md")
        shutil.copytree(DEMO / name, folder / f"{name}.part", ignore=ignored)
        model.save_pretrained(folder / f"{name}.part")
        (folder / f"{name}.part").rename(folder / name)


def measure(folder: Path, overrides: Sequence[str], trace: Path | None) -> dict[str, int]:
    """The most memory, in bytes, that `vlmmerge evolve` had: each kind's, and the total's."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = [word for override in overrides for word in ("--set", override)]
        command = ["evolve", str(folder / "recipe.yaml"), "--run", f"{scratch}/run", "--no-self-test", *settings]
        environment = os.environ | {"VLMMERGE_CACHE": f"{scratch}/cache", "HF_HUB_OFFLINE": "1"}
        said = Path(scratch, "said")
        with said.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "vlmmerge.cli", *command], env=environment, stdout=stream, stderr=stream
            )
        start, looks = time.perf_counter(), []
        while process.poll() is None:
            looks.append((time.perf_counter() - start, memory_of(process.pid)))
            time.sleep(EVERY)
        assert process.returncode == 0, said.read_text()
    if trace:
        lines = ("\t".join([f"{when:.2f}", *(f"{look[kind] / MIB:.0f}" for kind in KINDS)]) for when, look in looks)
        trace.write_text("\t".join(["seconds", *KINDS]) + "\n" + "\n".join(lines) + "\n", encoding="utf-8")
    kinds = {kind: max(look[kind] for _, look in looks) for kind in KINDS}
    return kinds | {"total": max(sum(look.values()) for _, look in looks)}


def memory_of(process: int) -> dict[str, int]:
    """Bytes of each kind that a process has."""
    found = dict.fromkeys(KINDS, 0)
    with contextlib.suppress(OSError):  # it has just ended
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0]) * 1024
    return found


if __name__ == "__main__":
    main()
