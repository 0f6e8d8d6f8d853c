"""Run by torchrun from test_distributed.py: trains the same model in every process, and writes what each ended with."""

import json
import sys
from pathlib import Path

import torch
from model_builders import gpt2, loaded
from test_finetune_arms import STILL, corpus
from test_finetune_units import long_units

from fairtest.specs import Training
from fairtest.training.distributed import Processes
from fairtest.training.finetune import finetune
from fairtest.training.models import save_state, trained_state
from fairtest.training.steps import NoiseSpec

TRAINING = Training(steps=4, batch_size=6, optimizer="sgd", learning_rate=0.1, max_length=9, long_texts="blocks")
CASES = {
    "plain": (corpus(), None),
    "private": (corpus(), NoiseSpec(1.0, 0.5)),
    "blocks": (long_units(), NoiseSpec(0.5, 0.5)),
    "release": (corpus(), NoiseSpec(1.0, 0.5, release=True)),
}


def trained(case):
    model = gpt2(**STILL)
    units, noise = CASES[case]
    log = finetune(loaded(model), units, TRAINING, noise, 7)
    return trained_state(model), log


def main(directory):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    here = Processes.current()
    for case in CASES:
        state, log = trained(case)
        save_state(state, directory / f"{case}-{here.rank}.safetensors")
        (directory / f"{case}-{here.rank}.json").write_text(json.dumps(log.as_dict()))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
