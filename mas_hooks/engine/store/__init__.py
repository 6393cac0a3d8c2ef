"""Activations of whole data sets: collected once, in memory or in shards on disk, which are mapped when read."""
