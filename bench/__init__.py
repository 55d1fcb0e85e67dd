"""Atoll side by side with what a user would pick instead, and with what its own design allows.

Not part of the package, and never a timed test: machines differ, ratios on one machine less so.
"""
