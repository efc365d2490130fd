"""The verbs: parse, call one function of a wing below, exit."""
