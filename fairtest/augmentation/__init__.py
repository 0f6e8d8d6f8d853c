"""Counterfactual data augmentation: a unit gets a second view of itself."""
