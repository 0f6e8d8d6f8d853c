"""Progress of long work: a bar with an estimate on a terminal, one plain line per finished piece elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TextIO

Suspend = Callable[[], contextlib.AbstractContextManager[object]]


class Progress:
    """Tells a person what is being trained or scored.

    Args:
        stream: where to write; None: silent.
        suspend: a context in which the stream can be written (a test runner captures output); None: always.
    """

    def __init__(self, stream: Callable[[], TextIO] | None = None, suspend: Suspend | None = None) -> None:
        self._stream = stream
        self._suspend = suspend or contextlib.nullcontext

    @contextlib.contextmanager
    def work(self, label: str, total: int, unit: str = "step") -> Iterator[Callable[[str], None]]:
        """A piece of work of `total` steps; the function it yields is called once a step with a short note."""
        if self._stream is None:
            yield lambda _note: None
            return
        from tqdm import tqdm

        began = time.monotonic()
        last = ""
        done = 0
        with self._suspend():
            stream = self._stream()
            terminal = stream.isatty()
            bar = tqdm(
                total=total,
                desc=f"fairtest: {label}",
                unit=unit,
                file=stream,
                disable=not terminal,
                leave=False,
                ncols=100,
            )

            def advance(note: str) -> None:
                nonlocal last, done
                last = note or last
                done += 1
                if note:
                    bar.set_postfix_str(note, refresh=False)
                bar.update()

            try:
                yield advance
            finally:
                bar.close()
                state = "" if done >= total else f", stopped at {done} of {total} {unit}s"
                note = f", {last}" if last else ""
                stream.write(f"fairtest: {label}: {time.monotonic() - began:.1f} s{note}{state}\n")
                stream.flush()


SILENT = Progress()
