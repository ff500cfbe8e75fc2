"""Sections of long pages, each with a function ``make`` from the run to its ``Part``."""
