"""Where `CI` is set, nothing is skipped quietly."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.tidy.sources import ROOT

SKIPPED_TEST = """
    import pytest

    def test_passes():
        pass

    def test_skips():
        pytest.skip("no disk")

    @pytest.mark.xfail(reason="known")
    def test_fails_as_it_must():
        assert 1 == 2
"""
SKIPPED_MODULE = """
    import pytest

    pytest.skip("no disk", allow_module_level=True)
"""


def run_pytest(folder: Path, ci: str) -> subprocess.CompletedProcess[str]:
    """Run the tests in `folder` with `CI` set to `ci`, our plugin, and nothing else of ours."""
    options = ["-c", "pytest.ini", "-p", "tests.no_skips", "-p", "no:cacheprovider", "-rs"]
    (folder / "pytest.ini").write_text("[pytest]\n")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CI", ci)
        environment.setenv("PYTHONPATH", str(ROOT))
        return subprocess.run(
            [sys.executable, "-m", "pytest", *options],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.mark.parametrize("source", [SKIPPED_TEST, SKIPPED_MODULE], ids=["test", "module"])
def test_a_skip_fails_in_ci_and_only_there(tmp_path: Path, source: str) -> None:
    """The same skip passes on a desk and fails in CI, and both reports give its reason."""
    (tmp_path / "test_it.py").write_text("import pytest\n\n\ndef test_ok():\n    pass\n")
    (tmp_path / "test_skips.py").write_text(dedent(source))

    on_a_desk = run_pytest(tmp_path, "")
    in_ci = run_pytest(tmp_path, "true")

    assert (on_a_desk.returncode, in_ci.returncode > 0) == (0, True), in_ci.stdout
    assert "1 skipped" in on_a_desk.stdout
    assert "skipped" not in in_ci.stdout.splitlines()[-1]
    assert "no disk" in on_a_desk.stdout
    assert "no disk" in in_ci.stdout
