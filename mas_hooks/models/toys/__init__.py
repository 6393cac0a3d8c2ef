"""Recurrent and transformer toys, trained on the tasks and kept in a cache."""
