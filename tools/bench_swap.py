"""Measure swaps of eyes in the demo world: `python tools/bench_swap.py --work WORK [--model MODEL]`.

MODEL (by default a uniform blend of the demo's parents, made here; better the best of a run of recipes/demo.yaml) gets
recipes/demo-parents/eyes, with a projector fitted to unlabelled pictures of training combinations. Held out: ja-scenes,
512 pictures whose combinations no picture here shows, unless one does so mirrored or turned. The control is a projector
of random weights.
"""

import argparse
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from scenes import draw, place, random_scene

from vlmmerge.backbone.encoder import load_encoder
from vlmmerge.backbone.folder import make_llava, make_processor, write_llava
from vlmmerge.backbone.gate import Gate, compare_eyes
from vlmmerge.backbone.pictures import Pictures, find_pictures
from vlmmerge.backbone.projector import Projector, measure
from vlmmerge.backbone.refit import ALL_VIEWS, Closed, fit_closed
from vlmmerge.backbone.swap import polished
from vlmmerge.backbone.targets import OldEyes
from vlmmerge.console import watch_swap
from vlmmerge.export import export_blend
from vlmmerge.generate import LiveVlm
from vlmmerge.plan import make_plan
from vlmmerge.recipe import EvalsetChoice, Generate, load_recipe

ROOT = Path(__file__).parent.parent
EYES = ROOT / "recipes" / "demo-parents" / "eyes"
NUM_PICTURES, SEED = 2000, 77
UNIFORM = "blend.ratios={vlm: {weight: 0.4}, ja-llm: {weight: 1.0}}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where pictures and models are kept")
    parser.add_argument("--model", type=Path, help="whose eyes are swapped")
    parser.add_argument("--samples", type=int, default=512)
    arguments = parser.parse_args()
    work = arguments.work
    pictures = draw_pictures(work / "pictures")
    model = arguments.model or uniform_blend(work / "uniform")
    gate = Gate(EvalsetChoice(name="ja-scenes", split="held_out", samples=arguments.samples), Generate())
    print("| projector | seconds | relative error | cosine | old CIDEr-D | new CIDEr-D | kept | wanted |")
    print("|---|---|---|---|---|---|---|---|")
    for name, wanted, folder, told in swaps(model, pictures, work):
        found = compare_eyes(gate, model, folder)
        scores = f"{found['old']:.2f} | {found['new']:.2f} | {found['kept']:.1%}"
        print(f"| {name} | {told} | {scores} | {wanted} |", flush=True)


def draw_pictures(folder: Path) -> Pictures:
    """Pictures of training combinations, drawn once from a seed."""
    if not folder.exists():
        folder.mkdir(parents=True)
        rng = random.Random(SEED)
        for number in range(NUM_PICTURES):
            draw(place(random_scene(rng, "train"), rng), rng).save(folder / f"{number}.png")
    return find_pictures(folder, NUM_PICTURES)


def uniform_blend(folder: Path) -> Path:
    plan = make_plan(load_recipe(ROOT / "recipes" / "demo.yaml", [UNIFORM, "evalset=", "score="]))
    export_blend(plan, folder)
    return folder


def swaps(model: Path, pictures: Pictures, work: Path) -> Iterator[tuple[str, str, Path, str]]:
    """Each projector's name, what was wanted of it, its folder, and seconds and alignment."""
    watcher = watch_swap()
    vlm = LiveVlm(model, Generate())
    old = OldEyes(vlm)
    encoder = load_encoder(EYES, vlm.model.dtype, vlm.device, old.grid)
    start = time.perf_counter()
    closed = fit_closed(old, encoder, pictures, watch=watcher.track)
    shown = describe(closed, closed.projector, time.perf_counter() - start)
    projectors = [("closed form", ">= 85 %, < 60 s", closed, closed.projector, shown)]
    start = time.perf_counter()
    seen = fit_closed(old, encoder, pictures, num_views=ALL_VIEWS, watch=watcher.track)
    fitted = polished(seen, watcher)
    shown = describe(seen, fitted, time.perf_counter() - start)
    projectors.append(("two-layer", ">= 95 %", seen, fitted, shown))
    torch.manual_seed(SEED)
    outputs, inputs = closed.projector.linear_1.weight.shape
    chance = Projector(inputs, outputs, closed.projector.activation)
    projectors.append(("random weights", "near 0", closed, chance, describe(closed, chance, 0.0)))
    processor, folder = make_processor(vlm, encoder), work / "swapped"
    for name, wanted, fit, projector, told in projectors:
        write_llava(make_llava(vlm, encoder, projector, fit.layers), processor, folder)
        yield name, wanted, folder, told


def describe(closed: Closed, projector: Projector, seconds: float) -> str:
    found = measure(projector, closed.held_out, closed.centre)
    return f"{seconds:.0f} | {found.relative_error:.3f} | {found.cosine:.3f}"


if __name__ == "__main__":
    main()
