"""Runs trained side by side, each in a process of its own; what they make they leave in the store."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairtest.errors import TrainingError
from fairtest.settings import Settings
from fairtest.specs import Arm


@dataclass(frozen=True)
class Job:
    """One run to train, and what to score while its model is in memory."""

    settings: Settings
    spec: Arm
    seed: int
    probe_set: str | None
    axis: str | None
    protocol: str | None = None
    trainer: bytes | None = None  # pickled; None: this library trains


class Workers:
    """A pool of processes that lives as long as its experiment: they import torch once.

    Every process runs `settings.threads` threads. A run is locked in the store while it is made, so two pools that
    want the
    same run make it once.
    """

    def __init__(self, processes: int) -> None:
        self._pool = ProcessPoolExecutor(
            processes, mp_context=multiprocessing.get_context("spawn"), initializer=_leave_quietly
        )

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, float | None]]:
        """Trains and scores; yields each job as it ends, with the seconds its training took here (None: it was found).

        Raises:
            TrainingError: a process died. Errors of a run are raised as they are.
        """
        futures: dict[Future[float | None], Job] = {self._pool.submit(work, job): job for job in jobs}
        waiting = set(futures)
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise TrainingError(
                "a training process died (killed, or out of memory)",
                where=f"arm {jobs[0].spec.name}",
                fix="set workers = 1, or free memory: every process holds a model of its own",
            ) from error
        except BaseException:
            self._stop(futures)
            raise

    def _stop(self, futures: dict[Future[float | None], Job]) -> None:
        """Interrupts what is running: each process cleans up after itself, finished runs stay."""
        for future in futures:
            future.cancel()
        for process in multiprocessing.active_children():
            if process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGINT)
        self._pool.shutdown(wait=False, cancel_futures=True)


_interrupted = False
_GRACE_SECONDS = 5.0


def _leave_quietly() -> None:
    """An interrupt ends a worker without a traceback: the parent tells the person.

    Only the first signal counts, and a pool that breaks sends one too: what a run leaves behind is being cleared away
    then, and a second one would stop that half-way. An import that catches everything may swallow the exit, so that
    there is an end after some seconds; what then lies in the store is no entry, and the next who makes it removes it.
    """

    def leave(number: int, frame: object) -> None:
        global _interrupted  # noqa: PLW0603 - whoever clears away has to be left alone
        del number, frame
        if not _interrupted:
            _interrupted = True
            end = threading.Timer(_GRACE_SECONDS, os._exit, (1,))
            end.daemon = True
            end.start()
            sys.exit(1)

    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)


def work(job: Job) -> float | None:
    """Trains and scores one run, in a process of its own; the seconds its training took, None where it was there."""
    try:
        return _work(job)
    finally:
        if _interrupted:
            os._exit(1)  # the pool would take the exit for an error of this job, and give out the next one


def _work(job: Job) -> float | None:
    from fairtest.experiments.experiment import Experiment
    from fairtest.store import Store

    experiment = Experiment(job.settings, Store(Path(job.settings.cache_dir)), trainer=_trainer(job))
    experiment.training_record(job.spec, job.seed)
    experiment.held_out(job.spec, [job.seed])
    if job.probe_set is not None:
        experiment.scores(job.spec, job.seed, job.probe_set, job.axis, job.protocol)
    seconds = experiment.ledger[experiment.run_digest(job.spec, job.seed)]["seconds"]
    return None if seconds is None else float(seconds)


def _trainer(job: Job) -> Any:
    if job.trainer is None:
        return None
    from transformers.utils import logging

    logging.disable_progress_bar()  # bars of several processes on one terminal are no bars
    try:
        return pickle.loads(job.trainer)  # noqa: S301 - a parent of this process made it, from its own memory
    except Exception as error:
        raise TrainingError(
            f"the trainer cannot be loaded in another process: {type(error).__name__}: {error}",
            where=f"arm {job.spec.name}",
            fix="set workers = 1, or write it into a module that can be imported without pytest",
        ) from error
