"""What a campaign says of its seeds: what was found, what was too easy, and how to run it again."""

import json
from collections import Counter
from pathlib import Path

import pytest

from atoll.checking.facts import Violation
from atoll.cli.app import run
from atoll.simulator.campaign import FLOORS, FLOORS_FROM_SEEDS, Campaign, load, save
from atoll.simulator.world import Report


def test_the_last_line_says_how_much_was_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """Seeds, reads and violations; and the exit code of a run that found nothing is 0."""
    assert run(["simulate", "--seeds", "2", "--first-seed", "3"]) == 0

    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("2 seeds, ")
    assert last.endswith(" reads checked, 0 violations")


def test_a_document_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """With `--json` the output is one document, with every count in it."""
    assert run(["simulate", "--seeds", "1", "--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert (document["seeds"], document["violations"], document["failed"]) == (1, 0, {})
    assert document["reads"] == document["counts"]["reads"] > 0
    assert document["counts"]["seeds run twice"] == 1


def test_a_campaign_goes_on_from_its_record_and_parts_add_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two parts, one of them interrupted, find together what one run finds."""
    a, b = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    assert run(["simulate", "--first-seed", "3", "--seeds", "1", "--record", a]) == 0
    assert run(["simulate", "--first-seed", "3", "--seeds", "2", "--record", a]) == 0
    assert run(["simulate", "--first-seed", "5", "--seeds", "1", "--record", b]) == 0
    assert run(["simulate", "--first-seed", "3", "--seeds", "3", "--json"]) == 0
    whole = json.loads("{\n" + capsys.readouterr().out.partition("{\n")[2])

    assert run(["simulate", "--seeds", "0", "--add", a, "--add", b, "--json"]) == 0

    together = json.loads(capsys.readouterr().out)
    assert together["seeds"] == 3
    assert together["counts"] == whole["counts"]


def test_a_record_of_other_seeds_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not written over."""
    path = tmp_path / "record.json"
    save(Campaign(first_seed=7, seeds=3), path)

    assert run(["simulate", "--seeds", "3", "--record", str(path)]) == 2

    assert "other seeds" in capsys.readouterr().err
    assert load(path).first_seed == 7


def test_a_violation_names_its_seed() -> None:
    """Whoever reads of a violation can run the seed that shows it."""
    campaign = Campaign()
    violation = Violation(promise="durability", at_s=1.5, what="a write is gone")

    campaign.add(Report(seed=7, violations=[violation]))
    campaign.add(Report(seed=8))

    assert campaign.failed == {7: ["durability at 1.500 s: a write is gone"]}
    assert (campaign.seeds, campaign.violations) == (2, 1)


def test_a_campaign_without_faults_is_too_easy() -> None:
    """Each kind of read under a fault has a floor; a few seeds are no sample to hold to it."""
    campaign = Campaign()
    for seed in range(FLOORS_FROM_SEEDS):
        assert campaign.shortfalls() == []
        campaign.add(Report(seed=seed, counts=Counter({"reads": 100_000})))

    assert len(campaign.shortfalls()) == len(FLOORS) - 1
