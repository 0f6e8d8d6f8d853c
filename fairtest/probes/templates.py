"""Our own gender probes: minimal pairs about people at work."""

from __future__ import annotations

import random

from fairtest.probes.frames import DOMAINS, LEANS, OTHER_GENDER, draw_fill, realise
from fairtest.probes.probe import ANTI_STEREOTYPE, STEREOTYPE, Probe, ProbeSet

VERSION = "1"


def gender_templates() -> ProbeSet:
    """Pairs that differ in their gendered words only: 40 occupations (the clusters) in 16 frames each (the templates).

    In the text of role `stereotype` the gender is the one that the occupation leans to. The set is always the same:
    what fills a slot is drawn with a fixed seed.
    """
    probes: list[Probe] = []
    for domain_name, domain in DOMAINS.items():
        for occupation, lean in LEANS.items():
            if lean == "neutral":
                continue
            for number, followup in enumerate(domain.followups):
                probe_id = f"{domain_name}-{occupation}-{number}"
                rng = random.Random(f"templates:{VERSION}:{probe_id}")
                frame, fill = f"{rng.choice(domain.openers)} {followup}", draw_fill(rng, domain)
                texts = {
                    STEREOTYPE: realise(frame, occupation, lean, fill),
                    ANTI_STEREOTYPE: realise(frame, occupation, OTHER_GENDER[lean], fill),
                }
                probes.append(Probe(probe_id, "gender", occupation, texts, f"{domain_name}-{number}"))
    return ProbeSet("templates", VERSION, "Apache-2.0", "fairtest", tuple(probes))
