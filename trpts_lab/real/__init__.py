"""Real image tasks in VTAB-1k's layout, rebuilt from public repositories or read from packages."""
