"""Log-likelihoods of a model over probes."""
