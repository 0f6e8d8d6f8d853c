"""Progress of long work: a bar with an estimate on a terminal, one plain line per finished piece elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TextIO

Suspend = Callable[[], contextlib.AbstractContextManager[object]]


class Advance(Protocol):
    """Says that work went on: by one step, or to `done` of `total`; the note stands beside the bar."""

    def __call__(self, note: str = "", *, done: int | None = None, total: int | None = None) -> None:
        """Moves the bar."""


class Progress:
    """Tells a person what is being trained or scored.

    Args:
        stream: where to write; None: silent.
        suspend: a context in which the stream can be written (a test runner captures output); None: always.
        quiet_seconds: off a terminal, minor work that took less than this leaves no line.
    """

    def __init__(
        self,
        stream: Callable[[], TextIO] | None = None,
        suspend: Suspend | None = None,
        quiet_seconds: float = 5.0,
    ) -> None:
        self._stream = stream
        self._suspend = suspend or contextlib.nullcontext
        self._quiet_seconds = quiet_seconds

    def say(self, text: str) -> None:
        """One line."""
        if self._stream is None:
            return
        with self._suspend():
            stream = self._stream()
            stream.write(f"fairtest: {text}\n")
            stream.flush()

    @contextlib.contextmanager
    def work(self, label: str, total: int, unit: str = "step", *, minor: bool = False) -> Iterator[Advance]:
        """A piece of work of `total` steps. Minor work has a bar, and a line only if it took long."""
        if self._stream is None:
            yield _unseen
            return
        from tqdm import tqdm

        began = time.monotonic()
        last = ""
        with self._suspend():
            stream = self._stream()
            terminal = stream.isatty()
            bar = tqdm(
                total=total,
                desc=f"fairtest: {label}",
                unit=f" {unit}",
                file=stream,
                disable=not terminal,
                leave=False,
                dynamic_ncols=True,
            )
            count = 0

            def advance(note: str = "", *, done: int | None = None, total: int | None = None) -> None:
                nonlocal last, count
                last = note or last
                if total is not None:
                    bar.total = total
                step = 1 if done is None else done - count
                count += step
                if note:
                    bar.set_postfix_str(note, refresh=False)
                bar.update(step)

            finished = False
            try:
                yield advance
                finished = True
            finally:
                bar.close()
                seconds = time.monotonic() - began
                if not minor or seconds >= self._quiet_seconds or not finished:
                    note = f", {last}" if last else ""
                    state = "" if finished else f", stopped after {count} {unit}s"
                    stream.write(f"fairtest: {label}: {seconds:.1f} s{note}{state}\n")
                    stream.flush()


def _unseen(note: str = "", *, done: int | None = None, total: int | None = None) -> None:
    """Nobody looks."""
    del note, done, total


SILENT = Progress()
