"""Texts: labelled data sets, splits, corpora and made-up sets. No model is run here."""
