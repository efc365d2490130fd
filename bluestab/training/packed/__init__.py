"""Sibling runs trained as one: every step is one pass through a network with S sets of weights.

drops      which units are dropped, for each sibling by its own seed
stacked    a network whose layers hold a weight per sibling
siblings   one run of a group: its network (a view into the stack), its optimizer, its history
keeping    the checkpoint of an interrupted group
training   the steps of a group, its evaluations
together   a group from its jobs to its results
"""
