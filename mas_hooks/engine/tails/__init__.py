"""Forwards that start at the patched site: one file each for decoders, recurrent models and models of any other kind.

What a tail keeps between passes stands in `kept`.
"""
