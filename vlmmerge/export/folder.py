"""A winner as an ordinary Hugging Face folder: the VLM parent's own files, but for the language tensors' bytes.

Knows files and folders. Does not know how the winner was found, nor what a model card tells.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmmerge import __version__
from vlmmerge.blend.distance import ancestry_warnings
from vlmmerge.blend.files import FileBlend, blend_files, measure_distances
from vlmmerge.checkpoint import MODEL_CARD
from vlmmerge.export.card import licences_of, model_card
from vlmmerge.export.licence import warnings
from vlmmerge.generate.processor import write_missing
from vlmmerge.genome import Ratios
from vlmmerge.outfolder import written_whole
from vlmmerge.plan import Plan
from vlmmerge.recipe import fingerprint_fields
from vlmmerge.resident import check_repeated_heads

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

    The other files of the VLM parent (of the `vision` parent, where there is one) are copied as they are; what an old
    one's processor lacks for transformers to load and ask the model is added (`processor.py`).

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
    with written_whole(out, PROVENANCE, num_bytes_needed(plan)) as folder:
        check_repeated_heads(plan)
        distances = measure_distances(file_blend(plan, ratios))
        for text in [*ancestry_warnings(distances), *warnings(licences_of(plan))]:
            watcher.on_warning(text)
        provenance = {**provenance, "distance_to_base": distances}
        write_told(folder, provenance, model_card(plan, ratios, provenance))
        write_model(plan, ratios, folder, watcher)


def write_model(plan: Plan, ratios: Ratios, folder: Path, watcher: ExportWatcher = UNWATCHED) -> None:
    """Write what `export` does into an empty folder, but for provenance and model card; it is whole when this ends."""
    eyes = plan.eyes
    for file in {*eyes.files(), *eyes.code_files()}.difference(eyes.weight_files):
        shutil.copyfile(file, folder / file.name)
    write_missing(eyes, folder)
    for num_bytes in blend_files(file_blend(plan, ratios), folder):
        watcher.on_bytes(num_bytes)


def write_told(folder: Path, provenance: Mapping[str, Any], card: str) -> None:
    """Write what an export tells of itself, for programs and for people."""
    (folder / PROVENANCE).write_text(json.dumps(provenance, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    (folder / MODEL_CARD).write_text(card, encoding="utf-8")


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


def num_bytes_needed(plan: Plan) -> int:
    """About how much an export takes on the disk."""
    return sum(file.stat().st_size for file in plan.eyes.files()) + ROOM_BESIDE


def num_bytes_written(plan: Plan) -> int:
    """The size of an export's weight files."""
    return sum(file.stat().st_size for file in plan.eyes.weight_files)
