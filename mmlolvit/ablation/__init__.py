"""Runs that differ in one mechanism each, and what comes of them."""
