"""A swap from what was typed to the folder: eyes taken over or fitted, held against the old ones, then written.

Knows all of backbone. Does not know the command line.
"""

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch

from vlmmerge import __version__
from vlmmerge.anatomy.towers import towers
from vlmmerge.backbone.alignment import alignment_line, describe_fit, doubts
from vlmmerge.backbone.captions import Schooled, check_captions, school
from vlmmerge.backbone.card import swap_card, where
from vlmmerge.backbone.donor import about_donor, plan_donor, write_donor
from vlmmerge.backbone.encoder import Encoder, load_encoder
from vlmmerge.backbone.folder import check_language_tower, make_llava, make_processor, write_llava
from vlmmerge.backbone.gate import Gate, check_gate, compare_eyes, pass_gate
from vlmmerge.backbone.lessons import read_lessons
from vlmmerge.backbone.pictures import Pictures, find_pictures, square
from vlmmerge.backbone.polish import polish
from vlmmerge.backbone.processes import crew, part
from vlmmerge.backbone.projector import Alignment, Projector, curved_projector, measure
from vlmmerge.backbone.refit import ALL_VIEWS, FEW_VIEWS, Closed, Layers, fit_closed, pairs_of
from vlmmerge.backbone.targets import OldEyes
from vlmmerge.backbone.tower import load_processor
from vlmmerge.checkpoint import Checkpoint, open_checkpoint
from vlmmerge.errors import CheckpointError
from vlmmerge.evalsets import load
from vlmmerge.evalsets.pictures import read_images
from vlmmerge.export.folder import PROVENANCE, num_bytes_needed, num_bytes_written, write_told
from vlmmerge.generate import LiveVlm
from vlmmerge.outfolder import check_replaceable, written_whole
from vlmmerge.recipe import EvalsetChoice, Generate

Watched = TypeVar("Watched")
NUM_LOOKED_AT = 64  # of an evalset's pictures
ROOM_FOR_PROJECTOR = 2**26  # bytes, and whatever else stands beside the towers


@dataclass(frozen=True)
class Watcher:
    """Who is told how a swap goes on.

    Args:
        on_warning: What may be a fault.
        track: Passes things through, and shows how far it is under a label.
        track_bytes: Given a label and a total, a context whose value is told of bytes written.
    """

    on_warning: Callable[[str], None]
    track: Callable[[Sequence[Any], str], Iterable[Any]]
    track_bytes: Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Refit:
    """How eyes are fitted.

    Args:
        encoder: A folder or hub id.
        images: The folder of unlabelled pictures.
        most: How many are used at most.
        keeps_grid: Whether the map has as many tokens as the old eyes' had, and not the encoder's own number.
        layers: Whose features are taken; None for those that serve best.
        has_polish: Whether the projector in closed form is fitted further, by gradient.
        captions: Whose pictures' captions the projector learns from in the end; None for no captions.
    """

    encoder: str
    images: Path
    most: int
    keeps_grid: bool = True
    layers: Layers | None = None
    has_polish: bool = False
    captions: EvalsetChoice | None = None


def swap_donor(model: str, donor: str, out: Path, gate: Gate | None, watcher: Watcher) -> dict[str, Any] | None:
    """Give a model the eyes of another VLM.

    Args:
        model, donor: Folders or hub ids.
        out: A folder that does not exist yet, or an earlier export, which is replaced.
        gate: What the new eyes must come up to; None for nothing.
        watcher: Who is told.

    Returns:
        What `vlmmerge.json` in `out` says; None in a process that writes nothing, for another one does.

    Raises:
        VlmMergeError: Anything does not fit, or the gate refuses; then nothing is written.
    """
    if not part():
        return None
    check_replaceable(out, PROVENANCE)
    check_gate(gate)
    for name in (model, donor):
        check_vlm(open_checkpoint(name), name)
    plan = plan_donor(model, donor)
    parents = {"model": plan.checkpoints["vlm"], "donor": plan.eyes}
    command = f"vlmmerge swap-vision {where(parents['model'])} --donor {where(parents['donor'])} --out DIR"
    with written_whole(out, PROVENANCE, num_bytes_needed(plan)) as folder:
        with watcher.track_bytes("writing", num_bytes_written(plan)) as on_bytes:
            write_donor(plan, folder, on_bytes)
        told: dict[str, Any] = {"vlmmerge": __version__, **_named(parents), "command": command}
        if gate:
            told["gate"] = compare_eyes(gate, parents["model"].folder, folder)
            pass_gate(gate, told["gate"], hint="--encoder with --images fits a projector to what the old eyes saw")
        write_told(folder, _without_answers(told), swap_card(parents, about_donor(plan), told, _settings(gate)))
    return told


def swap_encoder(model: str, refit: Refit, out: Path, gate: Gate | None, watcher: Watcher) -> dict[str, Any] | None:
    """Give a model a vision encoder's eyes, with a projector fitted to what the old eyes saw of unlabelled pictures.

    Args and Returns and Raises: As `swap_donor`.
    """
    check_replaceable(out, PROVENANCE)
    check_gate(gate)
    if refit.captions:
        check_captions(refit.captions, gate.choice if gate else None)
    parents = {"model": open_checkpoint(model), "encoder": open_checkpoint(refit.encoder)}
    check_vlm(parents["model"], model)
    load_processor(parents["encoder"].folder)  # whether it is an encoder is known before anything large is loaded
    pictures = find_pictures(refit.images, refit.most)
    for note in pictures.notes:
        watcher.on_warning(note)
    llava, processor, told = _fit(parents, pictures, refit, gate, watcher)
    if not part():
        return None
    num_bytes = sum(file.stat().st_size for each in parents.values() for file in each.files()) + ROOM_FOR_PROJECTOR
    with written_whole(out, PROVENANCE, num_bytes) as folder:
        write_llava(llava, processor, folder)
        del llava, processor
        gc.collect()
        if gate:
            told["gate"] = compare_eyes(gate, parents["model"].folder, folder)
            hint = "more pictures like those that will be asked about"
            pass_gate(gate, told["gate"], [alignment_line(told["alignment"])], hint)
        write_told(folder, _without_answers(told), swap_card(parents, about_fit(parents), told, _settings(gate)))
    return told


def _fit(
    parents: Mapping[str, Checkpoint], pictures: Pictures, refit: Refit, gate: Gate | None, watcher: Watcher
) -> tuple[Any, Any, dict[str, Any]]:
    """The model with its new eyes, its processor, and what is told of both."""
    crew()  # each process takes a GPU of its own before it loads anything
    vlm = LiveVlm(parents["model"].folder, _settings(gate))
    check_language_tower(vlm)
    old = OldEyes(vlm)
    grid = old.grid if refit.keeps_grid else None
    encoder = load_encoder(parents["encoder"].folder, vlm.model.dtype, vlm.device, grid)
    encoder.check_layers(refit.layers or ())
    num_views = ALL_VIEWS if refit.has_polish else FEW_VIEWS
    closed = fit_closed(old, encoder, pictures, refit.layers, num_views, watcher.track)
    projector = polished(closed, watcher) if refit.has_polish else closed.projector
    alignment = describe_fit(closed, projector, encoder, pictures)
    for text in doubts(alignment, _error_on_evalset(gate, old, encoder, closed, projector)):
        watcher.on_warning(text)
    told: dict[str, Any] = {
        "vlmmerge": __version__, **_named(parents), "command": _command(parents, refit), "alignment": alignment,
    }  # fmt: skip
    llava, processor = make_llava(vlm, encoder, projector, closed.layers), make_processor(vlm, encoder)
    if refit.captions:
        schooled = _schooled(llava, processor, projector, refit.captions, _settings(gate), watcher)
        told["captions"] = {"evalset": _short(refit.captions), **schooled.told}
        told["alignment"] = describe_fit(closed, schooled.projector, encoder, pictures)
        llava = make_llava(vlm, encoder, schooled.projector, closed.layers)
    return llava, processor, told


def about_fit(parents: Mapping[str, Checkpoint]) -> str:
    """What the swap is, for its card."""
    return (
        f"The language tower of `{where(parents['model'])}` with `{where(parents['encoder'])}` as its eyes. The "
        "projector between them was fitted to what the old eyes made of unlabelled pictures; neither tower changed."
    )


def polished(closed: Closed, watcher: Watcher) -> Projector:
    """The projector fitted further, with an activation if the closed form has none; never worse than that."""
    start, train, held_out = closed.projector, closed.train, closed.held_out
    if start.activation == "linear":
        start = curved_projector(start, "gelu", train, held_out)
    fitted = polish(start, train, held_out, closed.centre, watch=watcher.track)
    return min((closed.projector, fitted), key=lambda each: measure(each, held_out, closed.centre).relative_error)


def check_vlm(checkpoint: Checkpoint, name: str) -> None:
    """Check that a checkpoint has eyes.

    Raises:
        CheckpointError: It has none.
    """
    if "vision" not in towers(checkpoint.shapes).values():
        raise CheckpointError(
            f"{name} is no vision-language model: it has no vision tower",
            hint="MODEL and --donor are VLMs; a vision encoder alone is given by --encoder",
        )


def _schooled(
    llava: Any, processor: Any, projector: Projector, choice: EvalsetChoice, settings: Generate, watcher: Watcher
) -> Schooled:
    samples = watcher.track(load(choice.name, choice.split, choice.samples), "pictures with captions")
    return school(llava, projector, read_lessons(llava, processor, samples, settings), watch=watcher.track)


def _error_on_evalset(
    gate: Gate | None, old: OldEyes, encoder: Encoder, closed: Closed, projector: Projector
) -> Alignment | None:
    """The projector's alignment on some of the pictures that the gate asks about."""
    if gate is None:
        return None
    samples = load(gate.choice.name, gate.choice.split, gate.choice.samples)
    squares = [square(picture) for sample in islice(samples, NUM_LOOKED_AT) for picture in read_images(sample)]
    pairs = [(x.flatten(0, 1).cpu(), y.flatten(0, 1).cpu()) for x, y in pairs_of(old, encoder, squares, closed.layers)]
    y = torch.cat([y for _, y in pairs])[:, old.features]
    return measure(projector, (torch.cat([x for x, _ in pairs]), y), closed.centre)


def _command(parents: Mapping[str, Checkpoint], refit: Refit) -> str:
    layers = "".join(f" --layer {layer}" for layer in refit.layers or ())
    grid = ("" if refit.keeps_grid else " --grid new") + (" --fit two-layer" if refit.has_polish else "")
    if refit.captions:
        grid += f" --captions {_short(refit.captions)}"
    eyes = f"--encoder {where(parents['encoder'])} --images {refit.images.name} --pictures {refit.most}"
    return f"vlmmerge swap-vision {where(parents['model'])} {eyes}{grid}{layers} --out DIR"


def _short(choice: EvalsetChoice) -> str:
    """Of a path only its end, for a card travels."""
    return f"{Path(choice.name).name}:{choice.split}"


def _named(parents: Mapping[str, Checkpoint]) -> dict[str, Any]:
    return {
        name: {"name": where(checkpoint), "sha256": checkpoint.checksum, "commit": checkpoint.commit}
        for name, checkpoint in parents.items()
    }


def _settings(gate: Gate | None) -> Generate:
    return gate.settings if gate else Generate()


def _without_answers(told: dict[str, Any]) -> dict[str, Any]:
    """What is kept: scores, but not each answer."""
    if "gate" not in told:
        return told
    result = told["gate"]["result"]
    models = {name: {"scores": model["scores"]} for name, model in result["models"].items()}
    return {**told, "gate": {**told["gate"], "result": {**result, "models": models}}}
