"""Models that the studies make or load: small toys on tasks, and language models."""
