"""Runs patched models: everything frozen is computed once, and only what an edit can change is computed again."""
