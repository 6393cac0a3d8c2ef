"""Models that the studies make or load: `models.toys` on tasks, `models.language` for text.

Those made here share one training loop (`training_loop`) and one cache (`model_cache`).
"""
