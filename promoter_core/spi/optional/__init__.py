"""Abilities that a backend may have. Each is a protocol, asked for with `isinstance`."""
