"""A winner as an ordinary Hugging Face folder: the VLM parent's own files, but for the language tensors' bytes.

Knows files and folders, and what a model card tells. Does not know how the winner was found.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vlmmerge import __version__
from vlmmerge.blend.distance import ancestry_warnings
from vlmmerge.blend.files import FileBlend, blend_files, measure_distances
from vlmmerge.evaluate import Plan, check_repeated_heads
from vlmmerge.genome import Ratios
from vlmmerge.outfolder import written_whole
from vlmmerge.recipe import Recipe, fingerprint_fields

PROVENANCE = "vlmmerge.json"
# Bytes for the provenance, the model card and the folder itself.
ROOM_BESIDE = 2**20


@dataclass(frozen=True)
class ExportWatcher:
    """Who is told while an export is written.

    Args:
        on_bytes: How many more bytes of weights are written; `num_bytes_written` in all.
        on_warning: What is no fault but may be one, such as a base that seems no ancestor of its parents.
    """

    on_bytes: Callable[[int], None] = lambda num_bytes: None
    on_warning: Callable[[str], None] = lambda text: None


UNWATCHED = ExportWatcher()


def export(
    plan: Plan, ratios: Ratios, out: Path, provenance: Mapping[str, Any], watcher: ExportWatcher = UNWATCHED
) -> None:
    """Blend file to file and write the folder, whole or not at all.

    Args:
        plan: The parents and how they pair.
        ratios: The candidate's ratios.
        out: A folder that does not exist yet, or an earlier export, which is replaced.
        provenance: Plain values kept in `vlmmerge.json`: where the candidate came from, its scores. The parents'
            distances from the base are added.
        watcher: Who is told of progress and warnings.

    Raises:
        RunError: `out` holds something else, has too little room, or cannot be written.
        CheckpointError: A parent is damaged.
        ParentsError: A tied head differs from its embeddings.
        VlmMergeError: A blended value is not finite.
    """
    vlm, blend = plan.checkpoints["vlm"], file_blend(plan, ratios)
    with written_whole(out, PROVENANCE, sum(file.stat().st_size for file in vlm.files()) + ROOM_BESIDE) as folder:
        check_repeated_heads(plan)
        distances = measure_distances(blend)
        for text in ancestry_warnings(distances):
            watcher.on_warning(text)
        for file in set(vlm.files()).difference(vlm.weight_files):
            shutil.copyfile(file, folder / file.name)
        provenance = {**provenance, "distance_to_base": distances}
        (folder / PROVENANCE).write_text(json.dumps(provenance, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(model_card(plan, provenance), encoding="utf-8")
        for num_bytes in blend_files(blend, folder):
            watcher.on_bytes(num_bytes)


def file_blend(plan: Plan, ratios: Ratios) -> FileBlend:
    """What a plan's blend with these ratios reads and writes."""
    return FileBlend(
        method=plan.recipe.blend.method,
        seed=plan.recipe.blend.seed,
        options=plan.options,
        checkpoints=plan.checkpoints,
        keys=plan.anatomy.keys,
        written_keys={slot: plan.written_keys(slot) for slot in plan.anatomy.slots},
        vocabulary=plan.vocabulary,
        ratios=ratios,
    )


def export_blend(plan: Plan, out: Path, watcher: ExportWatcher = UNWATCHED) -> None:
    """Export the ratios that the recipe fixes, as `export` does; only its parents and blend matter."""
    recipe = {key: value for key, value in fingerprint_fields(plan.recipe).items() if key in ("parents", "blend")}
    commits = {"parents_commit": plan.commits} if plan.commits else {}
    export(plan, plan.fixed_ratios(), out, {"vlmmerge": __version__, "recipe": recipe, **commits}, watcher)


def num_bytes_written(plan: Plan) -> int:
    """The size of an export's weight files."""
    return sum(file.stat().st_size for file in plan.checkpoints["vlm"].weight_files)


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
    is_fixed = recipe.blend.ratios is not None and "candidate" not in provenance
    ratios = f"\n## Fixed ratios\n\n```yaml\n{_fixed(recipe)}```\n" if is_fixed else ""
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
{ratios}{table}
`{PROVENANCE}` holds the ratios and where they came from.

## Load it

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

processor = AutoProcessor.from_pretrained("PATH")
model = AutoModelForImageTextToText.from_pretrained("PATH")
```

Made by vlmmerge {__version__}.
"""


def _fixed(recipe: Recipe) -> str:
    """Method, options, seed and ratios as a recipe writes them, without what is so by default."""
    is_for_search = {"depth", "split", "ranges"}
    blend = recipe.blend.model_dump(mode="json", exclude=is_for_search, exclude_defaults=True)
    return yaml.safe_dump({"blend": blend}, sort_keys=False, default_flow_style=None, width=100)


def _public_name(where: str) -> str:
    """A hub id as it is; of a local folder only its name, for a card travels."""
    return Path(where).name if Path(where).is_absolute() else where
