"""The user's faults: one family of errors, one form of message.

Knows how a message looks: what is wrong, the details, and a last line that says what to do. Knows nothing else.
"""

from collections.abc import Iterable


class VlmMergeError(Exception):
    """A fault that the user can mend; the command line prints it without a traceback and exits with 1.

    >>> print(VlmMergeError("no such parent", details=["vlm: ./llava"], hint="check the path"))
    no such parent
      vlm: ./llava
    hint: check the path
    """

    def __init__(self, message: str, *, details: Iterable[str] = (), hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.hint = hint

    def __str__(self) -> str:
        hint = [f"hint: {self.hint}"] if self.hint else []
        return "\n".join([self.message, *(f"  {line}" for line in self.details), *hint])


class RecipeError(VlmMergeError):
    """The recipe is wrong: an unknown key, a wrong type, a value out of range."""


class CheckpointError(VlmMergeError):
    """A checkpoint is missing, malformed, or of a kind that is not read here."""


class ParentsError(VlmMergeError):
    """The parents do not fit each other."""


class EvalsetError(VlmMergeError):
    """An evalset is unknown, missing or damaged."""


class ScoreError(VlmMergeError):
    """A metric is unknown, or something that it needs is missing."""


class RunError(VlmMergeError):
    """A run folder cannot be used as asked."""
