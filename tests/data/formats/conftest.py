"""A person's own files are written and loaded."""

from tests.support.own_files import load, nodes

__all__ = ["load", "nodes"]
