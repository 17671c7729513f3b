"""A winner as an ordinary Hugging Face folder: the VLM parent's own files, but for the language tensors' bytes.

Knows files and folders, and what a model card tells. Does not know how the winner was found.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlmmerge import __version__
from vlmmerge.anatomy import Slot
from vlmmerge.blend.distance import DistanceMeter
from vlmmerge.blend.live import blend_tower
from vlmmerge.errors import RunError
from vlmmerge.evaluate import Plan, check_repeated_heads
from vlmmerge.genome import Ratios

PROVENANCE = "vlmmerge.json"


@dataclass(frozen=True)
class TowerOnDisk(Mapping[Slot, Tensor]):
    """A parent's language tower that is read slot by slot, so that an export needs no more memory than one slot."""

    plan: Plan
    parent: str

    def __getitem__(self, slot: Slot) -> Tensor:
        return self.plan.read(self.parent, slot)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.plan.anatomy.slots)

    def __len__(self) -> int:
        return len(self.plan.anatomy.slots)


def export(plan: Plan, ratios: Ratios, out: Path, provenance: Mapping[str, Any]) -> None:
    """Blend file to file and write the folder, whole or not at all.

    Args:
        plan: The parents and how they pair.
        ratios: The candidate's ratios.
        out: A folder that does not exist yet, or an earlier export, which is replaced.
        provenance: Plain values kept in `vlmmerge.json`: where the candidate came from, its scores. The parents'
            distances from the base are added.

    Raises:
        RunError: `out` holds something else, or cannot be written.
        ParentsError: A tied head differs from its embeddings.
        VlmMergeError: A blended value is not finite.
    """
    check_repeated_heads(plan)
    out = out.absolute()
    part, old = out.with_name(f".{out.name}.part"), out.with_name(f".{out.name}.old")
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file, wanted a folder", hint="choose another --out")
    if out.exists() and not (out / PROVENANCE).exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty and no export of vlmmerge", hint="choose another --out")
    try:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        part.mkdir(parents=True)
        vlm = plan.checkpoints["vlm"]
        for file in vlm.files():
            shutil.copyfile(file, part / file.name)
        meter = DistanceMeter()
        _write_tensors(part, plan, blended_tensors(plan, ratios, meter))
        provenance = {**provenance, "distance_to_base": meter.distances()}
        (part / PROVENANCE).write_text(json.dumps(provenance, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        (part / "README.md").write_text(model_card(plan, provenance), encoding="utf-8")
        if out.exists():
            out.rename(old)  # in one step: killed while it is removed, it is no half export under its name
        part.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise RunError(
            f"cannot write {out}: {error.strerror or error}", hint="make room, or choose another --out"
        ) from None


def blended_tensors(plan: Plan, ratios: Ratios, meter: DistanceMeter) -> Iterator[tuple[Slot, Tensor]]:
    """Each slot's blended tensor in the dtype of the VLM parent's file: the same bits as in the live model."""
    towers = {name: TowerOnDisk(plan, name) for name in plan.checkpoints}
    vlm = plan.checkpoints["vlm"]
    return blend_tower(
        method=plan.recipe.blend.method,
        seed=plan.recipe.blend.seed,
        base=towers.pop("base"),
        parents=towers,
        ratios=ratios,
        store_dtypes={slot: vlm.dtype(key) for slot, key in plan.anatomy.keys["vlm"].items()},
        options=plan.options,
        meter=meter,
    )


def _write_tensors(folder: Path, plan: Plan, tensors: Iterable[tuple[Slot, Tensor]]) -> None:
    """Overwrite the slots' byte ranges in copies of the VLM parent's weight files; every other byte stays."""
    vlm = plan.checkpoints["vlm"]
    for slot, tensor in tensors:
        whole = plan.whole(slot, tensor)
        for key in plan.written_keys(slot):
            info = vlm.tensors[key]
            raw = whole.to(vlm.dtype(key)).contiguous().cpu().view(torch.uint8).numpy().tobytes()
            assert len(raw) == info.num_bytes, f"{slot}: {len(raw)} bytes, its place has {info.num_bytes}"
            with (folder / info.file.name).open("r+b") as file:
                file.seek(info.start)
                file.write(raw)
    for name in {info.file.name for info in vlm.tensors.values()}:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())


def model_card(plan: Plan, provenance: Mapping[str, Any]) -> str:
    """The README.md of an export: what it is made of, how it scored, and how to load it."""
    recipe = plan.recipe
    parents = {"vlm": recipe.parents.vlm, "base": recipe.parents.base, **recipe.parents.llms}
    made_of = "\n".join(f"| `{name}` | {_public_name(where)} |" for name, where in parents.items())
    scores = provenance.get("held_out", {}).get("scores", {})
    rows = "\n".join(
        f"| {name} | {score['value']:.3f} | {score['low']:.3f} to {score['high']:.3f} | `{score['signature']}` |"
        for name, score in scores.items()
    )
    table = (
        f"\n## Held-out scores\n\n| metric | value | 95 % interval | signature |\n|---|---|---|---|\n{rows}\n"
        if rows
        else ""
    )
    return f"""---
language: ja
library_name: transformers
pipeline_tag: image-text-to-text
tags: [merge, vlmmerge, vision-language-model]
---

# A vision-language model that speaks Japanese, merged without training

Its language tower is blended by `{recipe.blend.method}`; its vision tower and projector are the VLM parent's, byte for
byte. The licences of all parents apply.

| parent | |
|---|---|
{made_of}
{table}
`{PROVENANCE}` holds the ratios and where they came from.

## Load it

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

processor = AutoProcessor.from_pretrained("PATH")
model = AutoModelForImageTextToText.from_pretrained("PATH")
```

Made by vlmmerge {__version__}.
"""


def _public_name(where: str) -> str:
    """A hub id as it is; of a local folder only its name, for a card travels."""
    return Path(where).name if Path(where).is_absolute() else where
