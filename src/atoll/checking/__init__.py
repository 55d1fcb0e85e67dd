"""A checker for each promise: the same over simulated deployments and over real ones."""
