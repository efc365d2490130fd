"""Wordy: classification of texts that must have some words."""

from dataclasses import dataclass

from bluestab.tasks.classification import Classification


@dataclass(frozen=True, kw_only=True)
class Wordy(Classification):
    """least_words: what a text must have at least."""

    least_words: int

    def problems(self, split, examples, labels):
        short = [e.id for e in examples if len(e.text.split()) < self.least_words]
        found = super().problems(split, examples, labels)
        return found + [f"item {i} has fewer than {self.least_words} words" for i in short]
