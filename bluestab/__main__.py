"""`python -m bluestab` is `bluestab`."""

from bluestab.cli.app import main

if __name__ == "__main__":  # a yaml may name any module, and importing one must start nothing
    main()
