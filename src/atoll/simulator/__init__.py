"""The real nodes under virtual time and a seeded network, watched by a checker for each promise."""
