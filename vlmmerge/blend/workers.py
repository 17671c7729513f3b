"""Threads that share out work: each computes alone on its own piece, so that a piece stays in its core's cache.

torch's own threads would split every single operation instead, and pass each piece from core to core. Knows tasks. Does
not know what they do.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")

# Bytes; glibc learns from nothing that is larger than 32 MiB.
LARGER_THAN_CHUNKS = 31 * 2**20
# Tasks that wait for each worker: enough for no worker to idle while the main thread does something else.
AHEAD = 8


@contextmanager
def torch_alone() -> Iterator[None]:
    """Let torch use one thread here: those that it would use else spin, waiting for work, on cores that others need."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


class Workers:
    """As many threads as torch uses here (`OMP_NUM_THREADS`, else the cores)."""

    def __init__(self) -> None:
        self.num_threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self.num_threads)
        # Each worker runs torch on itself alone. The setting is a thread's own, but for MKL's part, which is everyone's
        # and so is set back here once all workers have begun. Asking first keeps torch from setting a thread's number
        # once more at its first operation.
        all_begun = threading.Barrier(self.num_threads)

        def begin(_: int) -> None:
            torch.get_num_threads()
            torch.set_num_threads(1)
            all_begun.wait()

        list(self._pool.map(begin, range(self.num_threads)))
        torch.set_num_threads(self.num_threads)
        # glibc hands a freed chunk's memory back to the system, which costs more than the arithmetic when it comes in
        # again, until it has once seen something larger be freed (measured 2026: dare_ties 14 ns an element, then 8).
        torch.empty(LARGER_THAN_CHUNKS, dtype=torch.uint8)

    def map(self, tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
        """Run tasks side by side and yield their results in the tasks' order.

        Tasks are drawn on this thread, no more than a few ahead of what is yielded, and drawing one may itself `map`.
        Meanwhile torch uses one thread here too.

        Raises:
            Exception: Whatever the first task in order that fails raises; no later one is begun after that.
        """
        waiting: deque[Future[T]] = deque()
        with torch_alone():
            try:
                for task in tasks:
                    waiting.append(self._pool.submit(task))
                    if len(waiting) > AHEAD * self.num_threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
                for future in waiting:
                    if not future.cancelled():
                        future.exception()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
