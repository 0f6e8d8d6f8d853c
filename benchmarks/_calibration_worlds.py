"""Simulated experiments whose truth is known: two arms of several seeds, scored on the same items.

Sizes, discordance and design effect are those measured on real models: two public models of one family prefer
differently on 14% of StereoSet's 2106 sentences (79 terms, design effect 1.16), two seeds of one fine-tuning on 6 to
7%; frames and occupations are those of fairtest's own templates. By how much a seed moves all preferences of an arm
is known from three seeds only, so it is chosen, small and large. Log ratios are chosen too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from fairtest.statistics.intervals import mean_interval
from fairtest.statistics.power import Precision, minimum_detectable, plan_se

Values = npt.NDArray[np.float64]
Labels = npt.NDArray[np.intp]
PILOTS = 100


@dataclass(frozen=True)
class Parts:
    """Standard deviations of effects: `base` of items, the same for both arms and every seed; `arm` of an arm's items,
    the same for every seed of it; `noise` of an arm, a seed and an item; `seed` of an arm and a seed. `*_cluster`: the
    same for all items of a cluster, one number for each factor of clusters.
    """

    base: float
    arm: float
    noise: float
    seed: float
    base_cluster: tuple[float, ...] = (0.0,)
    arm_cluster: tuple[float, ...] = (0.0,)
    noise_cluster: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class Pilot:
    """Standard deviation of items' changes, share of items whose preference differs in one seed, design effect of the
    clusters, standard deviation of a change between seeds.
    """

    item_sd: float
    discordance: float
    design_effect: float
    seed_sd: float


@dataclass(frozen=True)
class World:
    """A probe set and two trainings. `preference`: items are 0 or 100 and means are points; otherwise log ratios.

    `target` and `reference` are where the metric's target and the reference's true mean are, `allowed` what the gate
    allows; all in the unit of the values.
    """

    name: str
    clusters: Labels
    parts: Parts
    preference: bool
    reference: float
    allowed: float
    target: float

    @property
    def items(self) -> int:
        return self.clusters.shape[-1]

    def latent(self, rng: np.random.Generator, seeds: int) -> Values:
        """What both arms have before their means are added [2, seeds, items]."""
        parts, items = self.parts, self.items
        shape = (2, seeds, items)
        values = parts.noise * rng.normal(size=shape) + parts.seed * rng.normal(size=(2, seeds, 1))
        values += parts.base * rng.normal(size=items) + parts.arm * rng.normal(size=(2, 1, items))
        for index, base, arm, noise in zip(
            np.atleast_2d(self.clusters), parts.base_cluster, parts.arm_cluster, parts.noise_cluster, strict=True
        ):
            if base or arm or noise:
                count = int(index.max()) + 1
                values += (base * rng.normal(size=count))[index]
                values += (arm * rng.normal(size=(2, 1, count)))[..., index]
                values += (noise * rng.normal(size=(2, seeds, count)))[..., index]
        return values

    def observed(self, latent: Values, candidate: float) -> tuple[Values, Values]:
        """Items of the candidate, whose true mean is `candidate`, and of the reference."""
        if not self.preference:
            return latent[0] + candidate, latent[1] + self.reference
        ours, theirs = (self._spread * ndtri(mean / 100.0) for mean in (candidate, self.reference))
        return 100.0 * (latent[0] + ours > 0.0), 100.0 * (latent[1] + theirs > 0.0)

    def candidate_at(self, amplification: float) -> float:
        """The candidate's mean, on the reference's side of the target, at which the amplification is as given."""
        side = 1.0 if self.reference >= self.target else -1.0
        return self.reference + side * amplification

    @cached_property
    def _spread(self) -> float:
        parts = self.parts
        clusters = (*parts.base_cluster, *parts.arm_cluster, *parts.noise_cluster)
        return math.sqrt(sum(sd**2 for sd in (parts.base, parts.arm, parts.noise, parts.seed, *clusters)))

    def detectable(self, seeds: int, confidence: float = 0.95) -> float:
        """The minimum detectable change beyond the allowed one, as a plan states it from an earlier measurement.

        With the reference at the target a change must also be told from one through the target, for which the mean of
        both arms is what has to be known.
        """
        known = [self.pilot(-1.0)] if self.reference != self.target else [self.pilot(-1.0), self.pilot(1.0)]
        planned = [self._plan(pilot, seeds) for pilot in known]
        return max(minimum_detectable(precision.se, precision.df, confidence) for precision in planned)

    def _plan(self, known: Pilot, seeds: int) -> Precision:
        return plan_se(
            self.items,
            min(int(row.max()) + 1 for row in np.atleast_2d(self.clusters)),
            seeds,
            discordance=known.discordance if self.preference else None,
            item_sd=None if self.preference else known.item_sd,
            seed_sd=known.seed_sd,
            design_effect=known.design_effect,
        )

    def pilot(self, sign: float) -> Pilot:
        """What earlier measurements of three seeds would say of this world, of candidate + sign x reference."""
        seeds = 3
        rng = np.random.default_rng(99)
        by_term, by_item, between, item_sd, discordance = [], [], [], [], []
        for _ in range(PILOTS):
            ours, theirs = self.observed(self.latent(rng, seeds), self.candidate_at(0.0))
            change = (ours - self.target) + sign * (theirs - self.target)
            clustered, single = mean_interval(change, self.clusters), mean_interval(change, None)
            by_term.append(clustered.cluster_se**2)
            by_item.append(single.cluster_se**2)
            between.append((clustered.seed_sd or 0.0) ** 2)
            item_sd.append(np.var(change.mean(axis=0), ddof=1))
            discordance.append(np.mean(change != 0.0))
        return Pilot(
            item_sd=math.sqrt(np.mean(item_sd)),
            discordance=float(np.mean(discordance)),
            design_effect=float(np.mean(by_term) / np.mean(by_item)),
            seed_sd=math.sqrt(np.mean(between)),
        )


def _terms(items: int, terms: int) -> Labels:
    return np.sort(np.arange(items) % terms)


def _grid(occupations: int, frames: int) -> Labels:
    return np.array(np.meshgrid(np.arange(occupations), np.arange(frames), indexing="ij")).reshape(2, -1)


def _in_points(seed_points: float) -> float:
    """Standard deviation of the latent score that moves a preference of about 50% by so many points."""
    return seed_points / 39.9


# Of a latent variance of 1, 0.9 is the item's own: two arms then differ on 14% of items, two seeds of one on 6 to 7%.
def _preference(seed_points: float, cluster: float) -> Parts:
    noise, arm, base = 0.0195, 0.08, 0.90
    return Parts(
        base=math.sqrt(base * (1.0 - cluster)),
        base_cluster=(math.sqrt(base * cluster),),
        arm=math.sqrt(arm * (1.0 - cluster)),
        arm_cluster=(math.sqrt(arm * cluster),),
        noise=math.sqrt(noise * (1.0 - cluster)),
        noise_cluster=(math.sqrt(noise * cluster),),
        seed=_in_points(seed_points),
    )


def _preferences(name: str, clusters: Labels, parts: Parts, reference: float = 57.0, allowed: float = 2.0) -> World:
    return World(name, clusters, parts, preference=True, reference=reference, allowed=allowed, target=50.0)


# Log ratios in nats. A change by term or frame is about as large as that by seed; three in ten of it is the item's own.
_BY_TERM = Parts(
    base=1.5, base_cluster=(0.5,), arm=0.5, arm_cluster=(0.15,), noise=0.3, noise_cluster=(0.05,), seed=0.03
)
_BY_BOTH = Parts(
    base=0.7,
    base_cluster=(0.7, 0.4),
    arm=0.25,
    arm_cluster=(0.15, 0.1),
    noise=0.2,
    noise_cluster=(0.05, 0.05),
    seed=0.04,
)
STEREOSET = _preferences("StereoSet, 2106 items, 79 terms", _terms(2106, 79), _preference(1.5, 0.023))
TEMPLATES = World(
    "templates, 40 occupations x 16 frames, log ratio",
    _grid(40, 16),
    _BY_BOTH,
    preference=False,
    reference=1.0,
    allowed=0.1,
    target=0.0,
)
WORLDS = (
    STEREOSET,
    _preferences("CrowS-Pairs, 1507 items", np.arange(1507), _preference(1.5, 0.0), reference=55.0),
    _preferences("CrowS-Pairs, seeds differ by 4 points", np.arange(1507), _preference(4.0, 0.0), reference=55.0),
    _preferences("StereoSet gender, 255 items, 10 terms", _terms(255, 10), _preference(2.5, 0.01), allowed=5.0),
    _preferences("StereoSet, design effect 3", _terms(2106, 79), _preference(1.5, 0.28)),
    _preferences("StereoSet at the target", _terms(2106, 79), _preference(1.5, 0.023), reference=50.0, allowed=0.0),
    World(
        "StereoSet, 79 terms, log ratio",
        _terms(2106, 79),
        _BY_TERM,
        preference=False,
        reference=0.5,
        allowed=0.05,
        target=0.0,
    ),
    TEMPLATES,
)


# Gates of a family: small, so that many can be drawn.
def _gate(name: str, seed: float) -> World:
    parts = replace(_BY_TERM, seed=seed)
    return World(name, _terms(120, 30), parts, preference=False, reference=1.0, allowed=0.1, target=0.0)


GATES = (_gate("", 0.03), _gate("seeds differ by far", 0.3))
