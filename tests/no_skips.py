"""A pytest plugin: where `CI` is set, a skipped test has failed.

A test may be skipped because this machine lacks what it needs. CI lacks nothing, so a skip there
is a test that silently stopped running.
"""

import os
from collections.abc import Generator
from typing import TypeVar

import pytest

UNSET = {"", "0", "false", "no"}

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def refused(report: Report) -> Report:
    """Turn a skip into a failure that tells the reason, and leave everything else alone."""
    if os.getenv("CI", "").lower() in UNSET or report.outcome != "skipped":
        return report
    if hasattr(report, "wasxfail"):
        return report  # It ran, and failed as it must.
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"A skipped test fails where CI is set. {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Refuse the skip of one test."""
    return refused((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Refuse the skip of a whole module."""
    return refused((yield))
