"""The verbs: parse, call one function of a wing below, exit."""

from bluestab.cli.app import main as main
