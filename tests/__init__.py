"""The tests of Atoll. Shared helpers are imported as `tests.…`."""
