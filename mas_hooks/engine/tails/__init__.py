"""Forwards that start at the patched site: one file each for decoders, recurrent models and any other, and what is
kept between passes."""
