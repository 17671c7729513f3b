"""Measure blending: `python tools/bench_blend.py --work /big/disk/bench`.

Writes three Mistral-shaped parents of 886 M parameters in bfloat16 (random weights, the vlm LLaVA-shaped with a tiny
vision tower; 7 GB, 14 GB at twice the layers), then prints

- the machine's copy bandwidth and disk write speed, which are the floor;
- `vlmmerge blend` against `mergekit-yaml` on the same language towers: whole processes, warm files, median of 3;
- peak resident memory of each, and of `vlmmerge blend` by every method, at these layers and at twice as many;
- a candidate in the live model, as a share of what copy bandwidth allows for the bytes that it must move.

`--device cuda` measures a candidate on the GPU instead, with LLaVA-1.6-Mistral-7B's shapes, by CUDA's own clock from
its first launch until the host knows that all is finite; and holds the kernels' bits against the plain formulas' on the
CPU. It takes 58 GB of the GPU's memory, and needs Triton.
A figure that was not reached is printed as such. mergekit comes with the `dev` extra.
"""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from vlmmerge.anatomy import Slot
from vlmmerge.blend import METHODS, blend_slot
from vlmmerge.blend.live import LiveBlender
from vlmmerge.genome import Ratio, Ratios

GIB = 2**30
REPEATS, REPEATS_ON_GPU = 3, 20
# How many times as fast as mergekit, how much of the copy bandwidth in the live model, milliseconds on an H200.
WANTED_FACTOR = {"linear": 3, "dare_ties": 6, "ties": 10}
WANTED_SHARE = {"linear": 0.5, "dare_ties": 0.2}
WANTED_MILLISECONDS = {"linear": 17, "dare_ties": 20, "ties": None}
WANTED_GIB = 1.5
RATIOS = {"vlm": Ratio(0.7, 0.6, 0.02, 0.1), "ja": Ratio(0.5, 0.5, 0.01, 0.15)}
# Runs a command and prints its seconds and peak memory; a small process, for a child's peak begins at its parent's.
MEASURE = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@dataclasses.dataclass(frozen=True)
class Shape:
    """The sizes of a Mistral-shaped language model."""

    layers: int
    hidden: int
    intermediate: int
    key_value: int
    vocabulary: int

    def slots(self) -> dict[Slot, tuple[int, ...]]:
        """The shape of every tensor."""
        within = {
            "input_layernorm": (self.hidden,),
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.k_proj": (self.key_value, self.hidden),
            "self_attn.v_proj": (self.key_value, self.hidden),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "post_attention_layernorm": (self.hidden,),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "mlp.down_proj": (self.hidden, self.intermediate),
        }
        layers = {
            Slot(layer, f"{role}.weight"): shape for layer in range(self.layers) for role, shape in within.items()
        }
        rows = (self.vocabulary, self.hidden)
        ends: dict[Slot, tuple[int, ...]] = {Slot(None, "norm.weight"): (self.hidden,)}
        ends |= {Slot(None, f"{role}.weight"): rows for role in ("embed_tokens", "lm_head")}
        return layers | ends

    @property
    def num_weights(self) -> int:
        return sum(torch.Size(shape).numel() for shape in self.slots().values())


OF_FILES = Shape(layers=16, hidden=2048, intermediate=5632, key_value=1024, vocabulary=32000)
ON_GPU = Shape(layers=32, hidden=4096, intermediate=14336, key_value=1024, vocabulary=32064)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/bench-blend"), help="a folder for the parents; removed")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--layers", type=int, default=OF_FILES.layers, help="fewer for a quick look")
    parser.add_argument("--only", choices=["files", "memory", "live"], nargs="+", default=["files", "memory", "live"])
    arguments = parser.parse_args()
    print(f"{machine(arguments.device)}\n\n| figure | wanted | measured | |\n|---|---|---|---|")
    if arguments.device == "cuda":
        measure_gpu()
        return
    shape = dataclasses.replace(OF_FILES, layers=arguments.layers)
    arguments.work.mkdir(parents=True)
    try:
        bandwidth = copy_bandwidth()
        show("copy bandwidth, read and written", "", f"{bandwidth / 1e9:.1f} GB/s")
        show("disk write speed", "", f"{disk_write_speed(arguments.work) / 1e9:.2f} GB/s")
        if "files" in arguments.only:
            measure_files(shape, arguments.work / "parents")
        if "memory" in arguments.only:
            for layers in (shape.layers, 2 * shape.layers):
                measure_memory(dataclasses.replace(shape, layers=layers), arguments.work / "parents")
        if "live" in arguments.only:
            measure_live(shape, bandwidth)
    finally:
        shutil.rmtree(arguments.work)


def machine(device: str) -> str:
    """What this was measured on."""
    cores = f"{torch.get_num_threads()} threads" if device == "cpu" else gpu()
    return f"{platform.machine()}, {cores}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}"


def gpu() -> str:
    """The GPU, and the versions of what drives it."""
    has_triton = importlib.util.find_spec("triton") is not None
    triton = f"triton {importlib.metadata.version('triton')}" if has_triton else "no triton"
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, {triton}"


def show(what: str, wanted: str, measured: str, is_reached: bool = True) -> None:
    print(
        f"| {what} | {wanted} | {measured} | {'' if not wanted else 'reached' if is_reached else '**not reached**'} |"
    )
    sys.stdout.flush()


def copy_bandwidth() -> float:
    """Bytes read and written a second when a large tensor is copied by all threads: median of 9."""
    source, target = torch.ones(2**29, dtype=torch.int8), torch.zeros(2**29, dtype=torch.int8)
    return 2 * 2**29 / median_seconds(lambda: target.copy_(source), 9)


def disk_write_speed(folder: Path) -> float:
    """Bytes a second that reach the disk: 2 GiB written and synced."""
    block = os.urandom(2**24)

    def write() -> None:
        with (folder / "written").open("wb") as file:
            for _ in range(128):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())

    seconds = median_seconds(write, REPEATS)
    (folder / "written").unlink()
    return 128 * len(block) / seconds


def median_seconds(action: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure_files(shape: Shape, folder: Path) -> None:
    """`vlmmerge blend` against mergekit, one after the other in turn."""
    write_parents(shape, folder)
    write_mergekits_vlm(shape, folder)
    out = folder / "out"
    for method, factor in WANTED_FACTOR.items():
        ours, theirs = vlmmerge_command(method, folder, out), mergekit_command(method, folder, out)
        runs: dict[str, list[tuple[float, float]]] = {"vlmmerge": [], "mergekit": []}
        for _ in range(REPEATS):
            for name, command in (("vlmmerge", ours), ("mergekit", theirs)):
                runs[name].append(run_process(command, folder, out))
        (seconds, peak), (their_seconds, their_peak) = (
            tuple(map(statistics.median, zip(*runs[name], strict=True))) for name in runs
        )
        measured = f"{seconds:.1f} s against {their_seconds:.1f} s: {their_seconds / seconds:.1f} x"
        show(f"{method}, file to file", f">= {factor} x mergekit", measured, their_seconds / seconds >= factor)
        measured = f"{peak:.2f} GiB against {their_peak:.2f} GiB"
        show(f"{method}, peak resident memory", f"<= {WANTED_GIB} GiB", measured, peak <= WANTED_GIB)
    shutil.rmtree(folder)


def measure_memory(shape: Shape, folder: Path) -> None:
    """The peak of every method."""
    write_parents(shape, folder)
    for method in METHODS:
        seconds, peak = run_process(vlmmerge_command(method, folder, folder / "out"), folder, folder / "out")
        what = f"{method}, {shape.num_weights / 1e6:,.0f} M parameters, {seconds:.1f} s: peak resident memory"
        show(what, f"<= {WANTED_GIB} GiB", f"{peak:.2f} GiB", peak <= WANTED_GIB)
    shutil.rmtree(folder)


def run_process(command: list[str], parents: Path, out: Path) -> tuple[float, float]:
    """Seconds and peak GiB of a process, with the parents' files warm and no write pending; its output is removed."""
    for file in parents.rglob("*.safetensors"):
        with file.open("rb") as stream:
            while stream.read(2**24):
                pass
    os.sync()
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and list(out.glob("*.safetensors")), f"failed: {' '.join(command)}\n{done.stderr}"
    shutil.rmtree(out)
    seconds, peak = map(float, done.stdout.split()[-2:])
    return seconds, peak * (1 if sys.platform == "darwin" else 1024) / GIB


def vlmmerge_command(method: str, folder: Path, out: Path) -> list[str]:
    ratios = {name: fields(ratio, method) for name, ratio in RATIOS.items()}
    recipe = {
        "parents": {"vlm": "vlm", "base": "base", "llms": {"ja": "ja"}},
        "blend": {"method": method} | ({"ratios": ratios} if METHODS[method].parameters else {}),
    }
    (folder / f"{method}.yaml").write_text(yaml.safe_dump(recipe))
    return [sys.executable, "-m", "vlmmerge.cli", "blend", str(folder / f"{method}.yaml"), "--out", str(out)]


def mergekit_command(method: str, folder: Path, out: Path) -> list[str]:
    models = {"vlm": "mergekit-vlm", "ja": "ja"}
    config = {
        "merge_method": method,
        "models": [
            {"model": str(folder / models[name]), "parameters": fields(ratio, method)} for name, ratio in RATIOS.items()
        ],
        "parameters": {"normalize": method == "linear"},
        "dtype": "bfloat16",
    }
    if method != "linear":
        config["base_model"] = str(folder / "base")
    (folder / f"mergekit-{method}.yaml").write_text(yaml.safe_dump(config))
    program = Path(sys.executable).with_name("mergekit-yaml")
    return [str(program), str(folder / f"mergekit-{method}.yaml"), str(out)]


def fields(ratio: Ratio, method: str) -> dict[str, float]:
    return {name: getattr(ratio, name) for name in METHODS[method].parameters}


def write_parents(shape: Shape, folder: Path) -> None:
    """Write `base`, `ja` and `vlm`: random weights, the children near the base, and configs that mergekit reads too."""
    config = {
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate, "num_hidden_layers": shape.layers, "num_attention_heads": 16,
        "num_key_value_heads": 8, "vocab_size": shape.vocabulary, "torch_dtype": "bfloat16",
        "tie_word_embeddings": False,
    }  # fmt: skip
    for name in ("base", "ja", "vlm"):
        is_vlm = name == "vlm"
        tensors = {vlm_key(slot) if is_vlm else key(slot): tensor for slot, tensor in child_weights(shape, name)}
        tensors |= {"vision_tower.weight": torch.zeros(2**20, dtype=torch.bfloat16)} if is_vlm else {}
        llava = {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "text_config": config}
        write_checkpoint(folder / name, tensors, llava if is_vlm else config)


def write_mergekits_vlm(shape: Shape, folder: Path) -> None:
    """The vlm's language tower as a model of its own, for mergekit knows no VLM."""
    tensors = {key(slot): tensor for slot, tensor in child_weights(shape, "vlm")}
    write_checkpoint(folder / "mergekit-vlm", tensors, json.loads((folder / "base" / "config.json").read_text()))


def write_checkpoint(folder: Path, tensors: dict[str, Tensor], config: Mapping[str, object]) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def child_weights(shape: Shape, name: str, device: str = "cpu") -> Iterator[tuple[Slot, Tensor]]:
    """A parent's weights: the base's, and for `ja` and `vlm` a tenth of their size added."""
    for number, (slot, size) in enumerate(shape.slots().items()):
        weights = noise(size, number, device).mul_(0.02)
        if name != "base":
            weights.add_(noise(size, number + 10_000 * (1 + ["ja", "vlm"].index(name)), device), alpha=0.002)
        yield slot, weights.bfloat16()


def noise(size: tuple[int, ...], seed: int, device: str) -> Tensor:
    return torch.randn(size, generator=torch.Generator(device).manual_seed(seed), device=device)


def key(slot: Slot) -> str:
    return str(slot) if slot.role == "lm_head.weight" else f"model.{slot}"


def vlm_key(slot: Slot) -> str:
    return f"language_model.{key(slot)}"


def measure_live(shape: Shape, bandwidth: float) -> None:
    """A candidate in the live model on the CPU, against a plain copy of as many bytes as it must move."""
    towers = {name: dict(child_weights(shape, name)) for name in ("base", "vlm", "ja")}
    for method, wanted in WANTED_SHARE.items():
        blender, seconds = live_blender(method, towers), []
        for number in range(5 + 1):
            ratios = candidate(shape, number)
            start = time.perf_counter()
            blender.write(ratios)
            seconds.append(time.perf_counter() - start)
        taken = statistics.median(seconds[1:])
        share = moved_bytes(method, shape) / bandwidth / taken
        measured = f"{1000 * taken:.0f} ms: {share:.0%}"
        show(f"{method}, a live candidate", f">= {wanted:.0%} of copy bandwidth", measured, share >= wanted)


def measure_gpu() -> None:
    """A candidate in the live model on the GPU, and its bits against the plain formula on the CPU."""
    towers = {name: dict(child_weights(ON_GPU, name, "cuda")) for name in ("base", "vlm", "ja")}
    source = torch.ones(2**32, dtype=torch.int8, device="cuda")
    bandwidth = 2 * source.numel() / (median_milliseconds(source.clone, REPEATS_ON_GPU) / 1000)
    del source
    show("copy bandwidth, read and written", "", f"{bandwidth / 1e12:.2f} TB/s")
    for method, wanted in WANTED_MILLISECONDS.items():
        measure_gpu_method(method, wanted, live_blender(method, towers), bandwidth)
        torch.cuda.empty_cache()


def measure_gpu_method(method: str, wanted: int | None, blender: LiveBlender, bandwidth: float) -> None:
    show(f"{method}, blended by", "", "kernels" if blender.has_kernel else "the plain formulas")
    candidates = iter([candidate(ON_GPU, number) for number in range(REPEATS_ON_GPU + 1)])
    taken = median_milliseconds(lambda: blender.write(next(candidates)), REPEATS_ON_GPU)
    floor = 1000 * moved_bytes(method, ON_GPU) / bandwidth
    what = f"{method}, a live candidate, {ON_GPU.num_weights / 1e9:.1f} G parameters"
    measured = f"{taken:.1f} ms (copying as many bytes: {floor:.1f} ms)"
    show(what, f"<= {wanted} ms on an H200" if wanted else "", measured, wanted is None or taken <= wanted)
    is_same = equals_plain_formula(blender, list(ON_GPU.slots())[:3])  # a norm, and two matrices
    show(f"{method}, the plain formula's bits", "all of them", "the same" if is_same else "others", is_same)


def median_milliseconds(action: Callable[[], object], repeats: int) -> float:
    """By CUDA's events, after a first time that does not count."""
    taken = []
    for _ in range(repeats + 1):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        action()
        end.record()
        torch.cuda.synchronize()
        taken.append(start.elapsed_time(end))
    return statistics.median(taken[1:])


def live_blender(method: str, towers: Mapping[str, Mapping[Slot, Tensor]]) -> LiveBlender:
    live = {slot: torch.nn.Parameter(torch.empty_like(tensor)) for slot, tensor in towers["vlm"].items()}
    parents = {name: tower for name, tower in towers.items() if name != "base"}
    return LiveBlender(method, 0, towers["base"], parents, live, dict.fromkeys(live, torch.bfloat16))


def candidate(shape: Shape, number: int) -> Ratios:
    """Other ratios in each layer and for each candidate."""
    ratios = {}
    for place, slot in enumerate(shape.slots()):
        shift = 0.001 * ((7 * place + 13 * number) % 100)
        ratios[slot] = {name: Ratio(r.weight + shift, r.density - shift) for name, r in RATIOS.items()}
    return ratios


def moved_bytes(method: str, shape: Shape) -> int:
    """What a candidate must read and write: two parents and the live tower, and the base if it takes part."""
    return shape.num_weights * 2 * (3 if method == "linear" else 4)


def equals_plain_formula(blender: LiveBlender, slots: Sequence[Slot]) -> bool:
    """Whether the live tensors of some slots have the bits of the formula on the CPU."""
    ratios = candidate(ON_GPU, 0)
    blender.write(ratios)
    for slot in slots:
        parents = {name: tower[slot].cpu() for name, tower in blender.parents.items()}
        plain = blend_slot(blender.method, blender.base[slot].cpu(), parents, ratios[slot], seed=0, slot=str(slot))
        if not torch.equal(blender.live[slot].detach().cpu().view(torch.int16), plain.bfloat16().view(torch.int16)):
            return False
    return True


if __name__ == "__main__":
    main()
