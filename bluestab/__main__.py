"""`python -m bluestab` is `bluestab`."""

from bluestab.cli import main

main()
