"""Faces: each turns HTTP into calls on an `Upstream`, and an error into an answer of its form."""
