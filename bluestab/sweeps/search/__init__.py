"""Searches: what a point is worth, when it is stopped, which comes next, who does it."""
