"""A location: an `Upstream` made of a cache, a journal and another `Upstream`."""
