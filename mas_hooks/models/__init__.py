"""Models that the studies make or load: `models.toys` on tasks, `models.language` for text."""
