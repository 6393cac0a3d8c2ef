"""The papers' toy models and their trainer: plain torch, no hooks inside."""
