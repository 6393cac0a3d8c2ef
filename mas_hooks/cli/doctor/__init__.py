"""`mas-hooks doctor`: whether hooks, swaps and gradients are right on this machine, with these versions."""
