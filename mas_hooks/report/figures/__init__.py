"""The drawings, each from plain data."""
