"""One training step of DAS on a language model, by this package and by its peers."""
