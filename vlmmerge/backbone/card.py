"""The model card of a swap: whose language tower and whose eyes, what was measured, how to make it again.

Knows what a swap told of itself. Does not know how it was made.
"""

from collections.abc import Mapping
from typing import Any

from vlmmerge import __version__
from vlmmerge.backbone.gate import NEW, OLD
from vlmmerge.checkpoint import Checkpoint
from vlmmerge.export.card import front_matter, loading_code, warning_box
from vlmmerge.export.licence import read_licence
from vlmmerge.recipe import Generate


def where(checkpoint: Checkpoint) -> str:
    """A hub id without its revision; of a local folder only its name, for a card travels."""
    return checkpoint.snapshot.id.repo if checkpoint.snapshot else checkpoint.folder.name


def swap_card(parents: Mapping[str, Checkpoint], about: str, provenance: Mapping[str, Any], settings: Generate) -> str:
    """Write the README.md of a swap.

    Args:
        parents: `model`, and `donor` or `encoder`.
        about: What was done, in a sentence or two.
        provenance: `command`, and if there are `alignment`, `captions` and `gate`.
        settings: How the model was asked.
    """
    licences = {name: read_licence(checkpoint.folder) for name, checkpoint in parents.items()}
    of_hub = [where(checkpoint) for checkpoint in parents.values() if checkpoint.commit]
    rows = [
        f"| `{name}` | {where(checkpoint)} ({licences[name].name}) | {checkpoint.commit or 'a local folder'} |"
        for name, checkpoint in parents.items()
    ]
    sections = [
        "# A vision-language model with other eyes",
        about,
        *warning_box(licences),
        "## Parents\n\n| | parent (licence) | revision |\n| --- | --- | --- |\n" + "\n".join(rows),
        *_alignment(provenance.get("alignment")),
        *_captions(provenance.get("captions")),
        *_gate(provenance.get("gate")),
        loading_code(settings),
        f"## Make it again\n\nWith vlmmerge {__version__}:\n\n```\n{provenance['command']}\n```",
        "`vlmmerge.json` holds all of this for programs.",
    ]
    return f"---\n{front_matter(licences, of_hub)}---\n\n" + "\n\n".join(sections) + "\n"


def _alignment(alignment: Mapping[str, Any] | None) -> list[str]:
    if not alignment:
        return []
    text = (
        f"On {alignment['num_held_out']} pictures that the projector was not fitted to, its features differ from the "
        f"old eyes' by {alignment['relative_error']:.1%} of their variance; the mean cosine per token is "
        f"{alignment['cosine']:.3f}."
    )
    return [f"## Alignment\n\n{text}"]


def _captions(captions: Mapping[str, Any] | None) -> list[str]:
    if not captions:
        return []
    losses = f"{captions['loss_before']:.3f} nats a token before and {captions['loss_after']:.3f} after"
    kept = "" if captions["is_kept"] else " That is no gain: the projector is the one from before."
    text = (
        f"In the end the projector alone learnt from {captions['num_train']} captions of `{captions['evalset']}`; on "
        f"{captions['num_held_out']} others, which it did not see, the loss was {losses}.{kept}"
    )
    return [f"## Captions\n\n{text}"]


def _gate(gate: Mapping[str, Any] | None) -> list[str]:
    if not gate:
        return []
    models = gate["result"]["models"]
    rows = [
        f"| {name} | "
        + " | ".join(
            f"{score['value']:.2f} ({score['low']:.2f} to {score['high']:.2f})" for score in model["scores"].values()
        )
        + " |"
        for name, model in ((name, models[name]) for name in (OLD, NEW))
    ]
    metrics = models[NEW]["scores"]
    head = f"| | {' | '.join(metrics)} |\n|{' --- |' * (len(metrics) + 1)}\n"
    signatures = "\n".join(f"- `{score['signature']}`" for score in metrics.values())
    text = f"On `{gate['evalset']}`, with 95 % intervals:\n\n{head}" + "\n".join(rows)
    return [f"## Scores\n\n{text}\n\n{signatures}"]
