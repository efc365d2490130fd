"""Sentences about what was refused."""

from __future__ import annotations

from bluestab.core.errors import did_you_mean


def test_the_nearest_name_is_never_the_refused_one() -> None:
    assert did_you_mean("partitio", ["partition", "mem"]) == "; did you mean 'partition'?"
    assert did_you_mean("partition", ["partition", "mem"]) == "; valid: mem"
    assert did_you_mean("partition", ["partition", "partitions"]) == "; did you mean 'partitions'?"
    assert did_you_mean("x", ["x"]) == ""


def test_capitals_hyphens_and_beginnings() -> None:
    models = ["bert_base_cased", "bert_base_uncased", "biobert_base", "roberta_base"]
    both = "; did you mean 'bert_base_cased' or 'bert_base_uncased'?"
    assert did_you_mean("bert_base", models) == both
    assert did_you_mean("BERT-base", models) == both
    assert did_you_mean("BioBERT-base", models) == "; did you mean 'biobert_base'?"
    assert did_you_mean("LLRD", ["freeze", "llrd"]) == "; did you mean 'llrd'?"
    assert did_you_mean("bert", ["bert_" + letter for letter in "abcde"]).startswith("; did you")
