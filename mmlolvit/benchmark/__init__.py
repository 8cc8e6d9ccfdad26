"""Measurements side by side: speed, memory, and what deployed forms cost in accuracy."""
