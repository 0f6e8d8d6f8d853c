"""An arm made of numbers: what a gate sees of it, without any training."""

from __future__ import annotations

import numpy as np

from fairtest.experiments.arms import HeldOut
from fairtest.scoring.scores import ProbeScores

CLUSTERS = 20
PER_CLUSTER = 10
ITEMS = CLUSTERS * PER_CLUSTER


class NumbersArm:
    """`log_ratio[s][i]`: log p(stereotype) - log p(anti) of item i, seed s; `nll`: nats per held-out token."""

    kind = "causal"
    available_seeds = None

    def __init__(
        self,
        name,
        log_ratio,
        *,
        nll,
        tuned=True,
        start=None,
        statement=None,
        protocol="causal-bos",
        probes="p",
        changed=None,
        seconds=None,
    ):
        self.name = name
        self.tuned = tuned
        self.log_ratio = np.atleast_2d(np.asarray(log_ratio, dtype=float))
        self.nll = [nll] * len(self.log_ratio) if np.isscalar(nll) else list(nll)
        self._start = start
        self._statement = statement
        self.protocol = protocol
        self.probes = probes
        self.changed = changed
        self.seconds = seconds

    @property
    def identity(self):
        return tuple(f"{self.name}-{seed}" for seed in range(len(self.log_ratio)))

    def changed_share(self):
        return self.changed

    def seconds_per_run(self):
        return self.seconds

    def scores(self, probe_set, axis=None, protocol=None):
        assert axis in (None, "gender")
        items = self.log_ratio.shape[1]
        return tuple(
            ProbeScores(
                probe_set=probe_set,
                probe_digest=self.probes,
                protocol=self.protocol,
                ids=tuple(f"item-{i}" for i in range(items)),
                axes=("gender",) * items,
                clusters=tuple(f"term-{i // PER_CLUSTER}" for i in range(items)),
                log_probs={"stereotype": tuple(row - 20.0), "anti_stereotype": (-20.0,) * items},
                tokens={"stereotype": (10,) * items, "anti_stereotype": (10,) * items},
            )
            for row in self.log_ratio
        )

    def held_out(self):
        texts = 50
        tokens = tuple(10 + i % 7 for i in range(texts))
        rows = tuple(tuple(nll * count * (1 + 0.002 * (i % 5)) for i, count in enumerate(tokens)) for nll in self.nll)
        units = tuple(f"u{i}" for i in range(texts))
        return HeldOut("texts", units, ("",) * texts, tokens, rows)

    def trained_tensors(self):
        return 12

    def start(self):
        return self if self._start is None else self._start

    def statement(self):
        return self._statement


def ratios(mean, *, seeds=3, seed_sd=0.02, cluster_sd=0.2, noise=0.3, rng=0, items=ITEMS):
    """Log ratios with a known mean, paired across arms that share `rng`: clusters and items have the same effects."""
    shared = np.random.default_rng(rng)
    clusters = np.repeat(shared.normal(0, cluster_sd, -(-items // PER_CLUSTER)), PER_CLUSTER)[:items]
    per_item = shared.normal(0, noise, items)
    own = np.random.default_rng([rng, int(abs(mean) * 1e6), 7])
    effects = own.normal(0, seed_sd, (seeds, 1)) + own.normal(0, 0.02, (seeds, items))
    return mean + clusters - clusters.mean() + per_item - per_item.mean() + effects


def pretrained(mean=1.8, nll=3.0):
    return NumbersArm("pretrained", ratios(mean, seeds=1, seed_sd=0.0), nll=nll, tuned=False)


def tuned(name, mean, *, nll=2.5, seeds=3, start=None, **options):
    return NumbersArm(name, ratios(mean, seeds=seeds), nll=nll, start=start or pretrained(), **options)
