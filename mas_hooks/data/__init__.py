"""Pairs of trials and their counterfactual continuations: from causal tasks, from texts, or from your own tensors."""
