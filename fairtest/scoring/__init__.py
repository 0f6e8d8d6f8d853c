"""Log-likelihoods of a model over probes.

The scores themselves (`fairtest.scoring.scores`) are plain data; only `fairtest.scoring.likelihood` needs torch.
"""

from fairtest.scoring.scores import CAUSAL_BOS, CAUSAL_NOBOS, ProbeScores, TextScore

__all__ = ["CAUSAL_BOS", "CAUSAL_NOBOS", "ProbeScores", "TextScore"]
