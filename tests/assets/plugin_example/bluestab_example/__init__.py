"""Plug-ins for bluestab: BLUESTAB_ALLOW=bluestab_example, BLUESTAB_CONF=the folder `conf` here."""
