"""What sealing binds, and how keys are kept."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import CorruptDataError, SealingKeyMissingError, SealingKeyWrongError
from atoll.store import sealing
from atoll.store.sealing import PART_METADATA, PART_VALUE, Sealing
from tests.support.rng import seeded_bytes

NS = "1" * 32
KEY_A = b"a" * 32
KEY_B = b"b" * 32


def begun(key: bytes = KEY_A, *, seed: int = 0, retired: tuple[bytes, ...] = ()) -> Sealing:
    """Return a sealing in its first run."""
    sealing_ = Sealing(current=key, retired=retired)
    sealing_.use(sealing_.begin(1, seeded_bytes(seed)))
    return sealing_


@given(st.binary(max_size=100), st.binary(max_size=20), st.integers(0, 2**62))
def test_what_was_sealed_opens(plain: bytes, key: bytes, sequence: int) -> None:
    """With the same arguments, and is longer by the tag."""
    sealer = begun().sealer(NS)
    sealed = sealer.seal(plain, key, sequence, PART_VALUE)

    assert len(sealed) == len(plain) + sealing.TAG_BYTES
    assert sealer.unseal(sealed, key, sequence, PART_VALUE) == plain
    assert sealer.unseal_joined(sealer.seal_joined(plain, key, key, sequence), key, sequence) == (
        plain,
        key,
    )


def test_nothing_opens_in_another_place() -> None:
    """Another key, write, part, bound, namespace, run or master: each is an error that names it."""
    sealer = begun().sealer(NS)
    sealed = sealer.seal(b"plain", b"key", 5, PART_VALUE, bound=b"1")

    for opener, key, sequence, part, bound in [
        (sealer, b"kez", 5, PART_VALUE, b"1"),
        (sealer, b"key", 6, PART_VALUE, b"1"),
        (sealer, b"key", 5, PART_METADATA, b"1"),
        (sealer, b"key", 5, PART_VALUE, b""),
        (begun().sealer("2" * 32), b"key", 5, PART_VALUE, b"1"),
        (begun(seed=1).sealer(NS), b"key", 5, PART_VALUE, b"1"),
        (begun(KEY_B).sealer(NS), b"key", 5, PART_VALUE, b"1"),
    ]:
        with pytest.raises(CorruptDataError, match=f"key '{key.decode()}'"):
            opener.unseal(sealed, key, sequence, part, bound=bound)
    assert sealer.unseal(sealed, b"key", 5, PART_VALUE, bound=b"1") == b"plain"


def test_a_seal_knows_its_master() -> None:
    """A key that made none of the seals is told apart before anything is opened."""
    seal = Sealing(current=KEY_A).begin(3, seeded_bytes())

    assert Sealing(current=KEY_A).admit(seal)
    assert Sealing(current=KEY_B, retired=(KEY_A,)).admit(seal)
    assert not Sealing(current=KEY_B).admit(seal)


def test_seals_of_retired_keys_are_outdated_until_set_aside() -> None:
    """And go on opening what is still read."""
    sealing_ = begun()
    sealed = sealing_.sealer(NS).seal(b"plain", b"k", 1, PART_VALUE)
    outdated = [list(sealing_.outdated)]

    sealing_.use(sealing_.begin(2, seeded_bytes(5), master=KEY_B), master=KEY_B)
    outdated.append(list(sealing_.outdated))
    assert sealing_.sealer(NS).seal_id == 2
    sealing_.set_aside((1,))

    outdated.append(list(sealing_.outdated))
    assert outdated == [[], [1], []]
    assert sealing_.opener(1, NS, b"k").unseal(sealed, b"k", 1, PART_VALUE) == b"plain"
    with pytest.raises(CorruptDataError):
        sealing_.opener(3, NS, b"k")


def test_few_derived_keys_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are derived again when they are needed again."""
    monkeypatch.setattr(sealing, "SEALERS_MAX", 2)
    sealing_ = begun()
    sealed = {n: sealing_.sealer(str(n)).seal(b"p", b"k", 1, PART_VALUE) for n in range(5)}

    for n in range(5):
        opener = sealing_.opener(1, str(n), b"k")
        assert opener.unseal(sealed[n], b"k", 1, PART_VALUE) == b"p"
    assert len(set(sealed.values())) == 5


def test_a_key_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """A line of 64 digits that can be printed and kept in a safe; never over another."""
    path = tmp_path / "key"
    key = sealing.create_key(path, seeded_bytes())

    assert path.read_text() == key.hex() + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sealing.read_key(path) == key
    with pytest.raises(FileExistsError):
        sealing.create_key(path, seeded_bytes(1))
    assert sealing.read_key(path) == key


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    """Missing or not of its form: both errors name the file."""
    path = tmp_path / "key"
    with pytest.raises(SealingKeyMissingError, match=str(path)):
        sealing.read_key(path)
    for content in (b"", b"00" * 31, b"00" * 33, b"0x" * 32, b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(SealingKeyWrongError, match=str(path)):
            sealing.read_key(path)


def test_a_replaced_key_is_set_aside(tmp_path: Path) -> None:
    """Each under a number of its own, whatever an interrupted attempt has left."""
    path = tmp_path / "key"
    first = sealing.create_key(path, seeded_bytes(1))
    (tmp_path / "key.new").write_text("left behind")

    second = sealing.replace_key(path, seeded_bytes(2))
    third = sealing.replace_key(path, seeded_bytes(3))

    assert len({first, second, third}) == 3
    assert sealing.read_key(path) == third
    assert sealing.retired_keys(path) == [first, second]
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "key",
        "key.retired-001",
        "key.retired-002",
    ]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in tmp_path.iterdir())
