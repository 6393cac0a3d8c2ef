"""Forwards that start at the patched site: one file for decoders, recurrent models and any other."""
