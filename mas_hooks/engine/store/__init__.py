"""Activations on disk: collected once, in shards, mapped into memory when read."""
