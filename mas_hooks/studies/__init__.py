"""The studies: one package each, with its settings; their thin recipes lie in `recipes/`."""
