"""Stabilisation techniques: one file each, beside one yaml in `conf/technique` of the same name."""
