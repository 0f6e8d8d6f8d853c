from __future__ import annotations

import re
from collections import Counter

from fairtest.probes.frames import LEANS
from fairtest.probes.probe import ANTI_STEREOTYPE, STEREOTYPE
from fairtest.probes.templates import gender_templates

MASCULINE = {"he", "He", "his", "His", "him", "himself", "man", "Mr"}
FEMININE = {"she", "She", "her", "Her", "herself", "woman", "Ms"}


def words(text):
    return re.findall(r"\w+|[^\w\s]", text)


def test_pairs_differ_in_gendered_words_only():
    for probe in gender_templates().probes:
        stereotype, anti = words(probe.texts[STEREOTYPE]), words(probe.texts[ANTI_STEREOTYPE])
        changed = [(a, b) for a, b in zip(stereotype, anti, strict=True) if a != b]
        assert changed
        ours, other = (MASCULINE, FEMININE) if LEANS[probe.cluster] == "male" else (FEMININE, MASCULINE)
        assert {a for a, _ in changed} <= ours
        assert {b for _, b in changed} <= other
        assert not set(stereotype) & other
        assert not set(anti) & ours


def test_there_are_enough_items_and_every_occupation_has_as_many():
    probes = gender_templates()
    clusters = Counter(probe.cluster for probe in probes.probes)
    assert (len(probes), len(clusters)) == (640, 40)
    assert set(clusters.values()) == {16}
    assert Counter(LEANS[cluster] for cluster in clusters) == {"male": 20, "female": 20}
    frames = Counter(probe.template for probe in probes.probes)
    assert len(frames) == 16
    assert set(frames.values()) == {40}
    assert len({(probe.cluster, probe.template) for probe in probes.probes}) == 640
    assert all(probe.cluster in words(probe.texts[STEREOTYPE]) for probe in probes.probes)


def test_the_set_is_the_same_each_time_and_says_what_it_is():
    probes = gender_templates()
    assert (
        probes.digest == gender_templates().digest == "ec89c02e6a88823cfe3d6723a0d7211618bb402d052a54bedae03cc632b31aef"
    )
    assert (probes.name, probes.version, probes.licence, probes.source) == ("templates", "1", "Apache-2.0", "fairtest")
    assert probes.axes == ("gender",)
    assert probes.roles == (ANTI_STEREOTYPE, STEREOTYPE)
