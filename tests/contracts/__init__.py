"""Suites that every technique, task and model must pass; what exists is discovered, not listed."""
