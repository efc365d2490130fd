"""Finished runs on disk: records, claims, index; and looking after them: gc, merge, verify."""

from bluestab.store.store import Store as Store
