"""Upload an exported folder to the hub, as a private model unless it is there already.

Knows the hub's client. Does not know what is in the folder, but for the card, which is told the model's name.
"""

from collections.abc import Callable
from pathlib import Path

from vlmmerge.checkpoint import MODEL_CARD
from vlmmerge.errors import RunError
from vlmmerge.export.card import PATH


def check_hub_id(hub_id: str) -> None:
    """Check that a name is one that the hub takes; asks nobody.

    Raises:
        RunError: It is not.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(hub_id)
    except HFValidationError as error:
        raise RunError(
            f"{hub_id} is no name for a model on the hub: {error}", hint="wanted ORGANISATION/NAME"
        ) from None


def push(folder: Path, hub_id: str, say: Callable[[str], None] = lambda text: None) -> str:
    """Upload every file of an exported folder in one commit.

    Args:
        folder: The exported folder.
        hub_id: Where to; a new model is made private, one that exists gets a further commit.
        say: Told before the upload begins.

    Returns:
        The commit's address.

    Raises:
        RunError: The hub refuses, or cannot be reached; the folder stays as it is.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    card = (folder / MODEL_CARD).read_text(encoding="utf-8").replace(f'"{PATH}"', f'"{hub_id}"')
    contents: dict[str, bytes | Path] = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
    contents[MODEL_CARD] = card.encode()
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in contents.items()]
    say(f"uploading {folder} to {hub_id}")
    try:
        api = HfApi()
        api.create_repo(hub_id, private=True, exist_ok=True)
        return str(api.create_commit(hub_id, operations, commit_message="Upload a merge made by vlmmerge").commit_url)
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RunError(
            f"{hub_id} was not uploaded; {folder} is whole",
            details=[reason],
            hint="run `hf auth login` with a token that may write, and the same command again",
        ) from None
