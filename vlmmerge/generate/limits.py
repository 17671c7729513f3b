"""A trial run of what may never end: in a process of its own, with limits on time and memory.

Knows processes. Does not know what is tried.
"""

import os
import resource
import select
import signal
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

CPU_SECONDS = 10
# Where the process waits instead of working; and the room for a machine that has other work.
WALL_SECONDS = 120
NUM_BYTES = 2**30
LONGEST_REASON = 2000  # a pipe holds this much before anybody reads


def try_out(task: Callable[[], object]) -> str:
    """Run `task` in a copy of this process, which changes nothing here.

    Returns:
        Why it failed, or an empty text if it came to its end. A task that does not end within `CPU_SECONDS` of work, or
        takes more than `NUM_BYTES` of memory, has failed.
    """
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Other threads do not exist in the copy; what is tried there waits for none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            child = os.fork()
        except OSError as error:
            os.close(read)
            os.close(write)
            return f"there is no room to try it out: {error.strerror}"
    if child == 0:
        os.close(read)
        _run_and_exit(task, write)
    os.close(write)
    try:
        ready, _, _ = select.select([read], [], [], WALL_SECONDS)
        reason = os.read(read, LONGEST_REASON) if ready else b""
    finally:
        os.close(read)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if reason == b"done":
        return ""
    return reason.decode(errors="replace") or f"it does not end within {CPU_SECONDS} seconds of work"


def _run_and_exit(task: Callable[[], object], write: int) -> None:
    """What the copy does: it never returns, whatever the task raises."""
    try:
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        if (size := _address_space()) is not None:
            resource.setrlimit(resource.RLIMIT_AS, (size + NUM_BYTES, size + NUM_BYTES))
        task()
        reason = "done"
    except MemoryError:
        reason = f"it takes more than {NUM_BYTES // 2**30} GiB of memory"
    except BaseException as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
    with suppress(BaseException):
        os.write(write, reason.encode(errors="replace")[:LONGEST_REASON])
    os._exit(0)


def _address_space() -> int | None:
    """The bytes of address space that this process has already; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        return None
    return pages * resource.getpagesize()
