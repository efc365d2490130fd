"""Sentences: what a table says, in words that claim no more than it shows."""
