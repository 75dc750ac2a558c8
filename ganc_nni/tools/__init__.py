"""Single jobs that need no recipe."""
