"""The thread on which the sync face waits: one event loop for each process, begun when needed."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

THREAD_NAME: Final = "atoll-client"


class Background:
    """An event loop in a thread, which ends with the process."""

    def __init__(self) -> None:
        """Begin nothing yet."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._left: list[asyncio.AbstractEventLoop | None] = []

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for `work`; whatever interrupts the wait ends the work as well.

        Raises:
            RuntimeError: The caller is on this very thread, which would wait for itself.
        """
        loop = self._running()
        if threading.current_thread().name == THREAD_NAME:
            work.close()
            message = (
                "the sync client was called from a stream that it is reading; pass the async one"
            )
            raise RuntimeError(message)
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._pid != os.getpid():
            self.leave()
        loop = self._loop
        if loop is not None:
            return loop
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name=THREAD_NAME, daemon=True).start()
                self._loop = loop
            return self._loop

    def leave(self) -> None:
        """In a forked child: the thread is the parent's, and so is all that its loop holds."""
        self._left.append(self._loop)
        self._loop = None
        self._pid = os.getpid()
        self._lock = threading.Lock()


BACKGROUND: Final = Background()

os.register_at_fork(after_in_child=BACKGROUND.leave)
