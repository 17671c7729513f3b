"""How near a fitted projector comes to what the old eyes saw, told to people and programs, and what speaks against it.

Knows projectors and pictures. Does not know how a swap goes on.
"""

from typing import Any

from vlmmerge.backbone.encoder import Encoder
from vlmmerge.backbone.pictures import Pictures
from vlmmerge.backbone.projector import Alignment, Projector, measure
from vlmmerge.backbone.refit import Closed

FEW_PICTURES = 200
MANY_TIMES = 1.5  # as large an error is another one


def describe_fit(closed: Closed, projector: Projector, encoder: Encoder, pictures: Pictures) -> dict[str, Any]:
    """What was fitted to what, and how near it comes on pictures held out, as plain values."""
    found, train = (measure(projector, rows, closed.centre) for rows in (closed.held_out, closed.train))
    return {
        "relative_error": found.relative_error,
        "cosine": found.cosine,
        "relative_error_in_training": train.relative_error,
        "num_train": len(pictures.train),
        "num_held_out": len(pictures.held_out),
        "layers": list(closed.layers),
        "grid": list(encoder.grid),
        "tokens": encoder.num_tokens,
        "penalty": closed.penalty,
        "activation": projector.activation,
    }


def alignment_line(alignment: dict[str, Any]) -> str:
    """The alignment in one line, for people."""
    return (
        f"alignment on {alignment['num_held_out']} held-out pictures: relative error "
        f"{alignment['relative_error']:.3f}, cosine {alignment['cosine']:.3f}"
    )


def captions_line(captions: dict[str, Any]) -> str:
    """What captions came to, in one line, for people."""
    became = f"{captions['loss_before']:.3f} before, {captions['loss_after']:.3f} after"
    became = became if captions["is_kept"] else f"{captions['loss_before']:.3f}, which did not fall: nothing is kept"
    return f"{captions['num_train']} captions of {captions['evalset']}: loss a token on those held out {became}"


def doubts(alignment: dict[str, Any], on_evalset: Alignment | None) -> list[str]:
    """What speaks against a fit, in words.

    Args:
        alignment: As `describe_fit` tells it.
        on_evalset: The projector's on the gate's pictures.
    """
    found = []
    error, train = alignment["relative_error"], alignment["relative_error_in_training"]
    errors = f"relative error {train:.3f} on {alignment['num_train']} pictures, {error:.3f} on those held out"
    if alignment["num_train"] < FEW_PICTURES:
        found.append(f"only {alignment['num_train']} pictures to fit to: {errors}")
    elif error > MANY_TIMES * train:
        found.append(f"too few pictures, or too unlike each other: {errors}")
    if on_evalset and on_evalset.relative_error > MANY_TIMES * error:
        found.append(
            f"the evalset's pictures are unlike those of --images: relative error {on_evalset.relative_error:.3f} on "
            f"them, {error:.3f} on held-out ones"
        )
    return found
