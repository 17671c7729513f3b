"""What ships says what was scored: an exported folder, loaded by a new process, is asked what the candidate was asked.

The new process runs this module; it shares nothing with the search but the recipe. Knows an exported folder, the
search's questions, and the checksum of the candidate's answers. Does not know how they were scored.
"""

import subprocess
import sys
from pathlib import Path

from vlmmerge.errors import RunError
from vlmmerge.evalsets import load
from vlmmerge.evaluate import answers_checksum
from vlmmerge.generate import LiveVlm
from vlmmerge.journal import Record
from vlmmerge.recipe import Recipe

TRUST = "--trust-remote-code"


def check_export(folder: Path, recipe: Recipe, candidate: Record, *, trusts_code: bool = False) -> int:
    """Load an export in a new process and compare its answers with those that the candidate gave in the search.

    Args:
        folder: The exported folder.
        recipe: The run's recipe.
        candidate: The candidate's line in the journal.
        trusts_code: Whether code that comes with the VLM may run.

    Returns:
        How many answers were compared; all are equal.

    Raises:
        RunError: The folder does not load, or answers otherwise.
    """
    command = [sys.executable, "-m", "vlmmerge.export.selftest", str(folder), *([TRUST] if trusts_code else [])]
    done = subprocess.run(command, input=recipe.model_dump_json(), text=True, capture_output=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RunError(
            f"{folder} was written, but does not load in a new process",
            details=lines[-3:],
            hint=f"`vlmmerge answer {folder} --image FILE` tells more",
        )
    checksum, num_answers = done.stdout.split()[-2:]
    if checksum != candidate["answers_sha256"]:
        raise RunError(
            f"{folder} was written, but answers otherwise than candidate {candidate['index']} did in the search",
            details=[f"its answers have the checksum {checksum[:12]}, wanted {candidate['answers_sha256'][:12]}"],
            hint="another device, torch or transformers than in the run may round otherwise; if nothing has changed, "
            "do not trust the folder, and report this",
        )
    return int(num_answers)


def main(folder: str, *, trusts_code: bool) -> None:
    """Answer the search's questions with the model in `folder`; the recipe comes on stdin."""
    recipe = Recipe.model_validate_json(sys.stdin.read())
    assert recipe.evalset
    choice = recipe.evalset.search
    vlm = LiveVlm(Path(folder), recipe.generate, trusts_code=trusts_code)
    answers = vlm.answer(vlm.prepare(load(choice.name, choice.split, choice.samples)))
    print(answers_checksum(answers), len(answers))


if __name__ == "__main__":
    main(sys.argv[1], trusts_code=TRUST in sys.argv)
