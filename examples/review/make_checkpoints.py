"""Makes what a reviewer would be sent: models of two arms, a privacy statement beside each private one, and texts that
none of them was trained on. Delete this file and conftest.py once you have directories of your own.
"""

import shutil
import tempfile
from pathlib import Path

import fairtest
from fairtest.tiny.generator import corpus, write_jsonl

RECEIVED = Path(__file__).parent / "received"
SEEDS = 3


def main() -> None:
    """Trains two arms of the embedded model; under a minute on one core."""
    with tempfile.TemporaryDirectory() as scratch:
        # The private corpus and the store are gone when this ends: a reviewer has neither.
        records = Path(scratch) / "records.jsonl"
        write_jsonl(corpus("private", 0.65, 2000, seed=1), records, prefix="r")
        settings = fairtest.Settings(
            corpus=str(records),
            epsilon=3.0,
            seeds=SEEDS,
            steps=40,
            batch_size=64,
            learning_rate=4e-3,
            max_length=48,
            threads=1,
        )
        arms = fairtest.Arms(fairtest.Experiment(settings, fairtest.Store(Path(scratch) / "store")))
        unfinished = RECEIVED.with_name("received.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for arm, folder in ((arms.baseline, "public"), (arms.dp_cda, "private")):
            for seed in range(SEEDS):
                arm.save_pretrained(unfinished / folder / f"seed{seed}", seed)
        write_jsonl(corpus("private", 0.65, 200, seed=2), unfinished / "held_out.jsonl", prefix="h")
        unfinished.rename(RECEIVED)


if __name__ == "__main__" and not RECEIVED.exists():
    main()
