"""Every file of ours keeps the rules."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.tidy import rules
from tests.tidy.sources import SOURCE, TESTS, python_files, relative, texts


def faults(rule: Callable[[str], list[str]], paths: Iterable[Path]) -> list[str]:
    """Apply `rule` to each file, and say where each fault is."""
    return [f"{relative(p)}: {fault}" for p in paths for fault in rule(p.read_text())]


@pytest.mark.parametrize("rule", [rules.long_functions, rules.long_module, rules.silent_module])
def test_code_can_be_read_a_piece_at_a_time(rule: Callable[[str], list[str]]) -> None:
    """Functions have up to 70 lines, modules up to 600, and each module says what it is for."""
    paths = python_files(SOURCE, TESTS)

    assert len(paths) > 1
    assert faults(rule, paths) == []


def test_docstrings_name_what_is_raised() -> None:
    """A public function that raises an error by name says so under `Raises:`."""
    assert faults(rules.undocumented_raises, python_files(SOURCE)) == []


def test_skipped_tests_say_why() -> None:
    """Nothing is skipped, or expected to fail, without a reason that a report can show."""
    assert faults(rules.unexplained_skips, python_files(TESTS)) == []


def test_nothing_is_put_off_in_a_comment() -> None:
    """What is left to do is not written where nobody looks for it."""
    assert faults(rules.put_off, texts()) == []
