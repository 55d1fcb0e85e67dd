"""Sealing: what is stored of values and metadata can only be read with the key, and not be forged.

The master key is 32 random bytes in a file. It seals nothing itself. Each start of a store draws
a salt and records it, with a check value, as a *seal*; keys are derived (HKDF-SHA256) from master,
salt and namespace, and what they seal (AES-256-GCM) names its seal. So a key is never shared by
two runs, not even by a store and its restored or copied twin, and a nonce need only be unique
within one run: it is the sequence of the write in the log, which a run never uses twice, and the
part of the write. Namespace and key are bound in, so that nothing can be moved to another place.

Keys, sizes, versions and expirations are not sealed: a store orders and sweeps by them.
"""

import hmac
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from atoll.core.errors import CorruptDataError, SealingKeyMissingError, SealingKeyWrongError

RandomBytes = Callable[[int], bytes]

MASTER_KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
CHECK_BYTES: Final = 16
TAG_BYTES: Final = 16
"""By how much sealed bytes are longer than what they seal."""

PART_VALUE: Final = 0
PART_METADATA: Final = 1
PART_JOINED: Final = 2
PART_FIRST_CHUNK: Final = 3

_LENGTH_BYTES: Final = 4

SEALERS_MAX: Final = 4096
"""How many derived keys are kept; deriving one takes microseconds."""

RETIRED_KEYS_MAX: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What one run of a store sealed under, and by which master key."""

    id: int
    salt: bytes
    check: bytes
    """Tells whether a master key is the one, and nothing about it."""


class Sealer:
    """Seals and opens what one run stores in one namespace."""

    __slots__ = ("_aead", "_context", "_encrypt", "_namespace", "seal_id")

    def __init__(self, *, seal_id: int, key: bytes, namespace: str) -> None:
        """Use `key`, which was derived for this seal and namespace."""
        self.seal_id = seal_id
        self._namespace = namespace
        self._aead = AESGCM(key)
        self._encrypt = self._aead.encrypt
        self._context = namespace.encode() + b"\0"

    def seal(
        self, plain: bytes | memoryview, key: bytes, sequence: int, part: int, *, bound: bytes = b""
    ) -> bytes:
        """Seal one part of a write.

        Args:
            plain: What to seal.
            key: The key that was written.
            sequence: The write's place in the log: never the same for two writes of a run.
            part: One of the parts above; chunks count up from `PART_FIRST_CHUNK`.
            bound: Also needed to open it; a chunk binds the size of the whole value.
        """
        nonce = (sequence << 32 | part).to_bytes(12, "big")
        return self._encrypt(nonce, plain, self._context + key + bound)

    def unseal(
        self, sealed: bytes, key: bytes, sequence: int, part: int, *, bound: bytes = b""
    ) -> bytes:
        """Open what `seal` made of the same part of the same write.

        Raises:
            CorruptDataError: It was not made by `seal` with these arguments.
        """
        nonce = (sequence << 32 | part).to_bytes(12, "big")
        try:
            return self._aead.decrypt(nonce, sealed, self._context + key + bound)
        except InvalidTag as error:
            raise corrupt(self._namespace, key) from error

    def seal_joined(self, metadata: bytes, value: bytes, key: bytes, sequence: int) -> bytes:
        """Seal a short value together with its metadata, at the price of one."""
        length = len(metadata).to_bytes(_LENGTH_BYTES, "big")
        nonce = (sequence << 32 | PART_JOINED).to_bytes(12, "big")
        return self._encrypt(nonce, b"".join((length, metadata, value)), self._context + key)

    def unseal_joined(self, sealed: bytes, key: bytes, sequence: int) -> tuple[bytes, bytes]:
        """Return metadata and value.

        Raises:
            CorruptDataError: As `unseal`.
        """
        plain = self.unseal(sealed, key, sequence, PART_JOINED)
        end = _LENGTH_BYTES + int.from_bytes(plain[:_LENGTH_BYTES], "big")
        return plain[_LENGTH_BYTES:end], plain[end:]


def corrupt(namespace: str, key: bytes) -> CorruptDataError:
    """Say which record cannot be read."""
    name = key.decode(errors="backslashreplace")
    return CorruptDataError(where=f"namespace {namespace}, key {name!r}")


class Sealing:
    """All the seals of a store, and the one that this run uses."""

    def __init__(self, *, current: bytes, retired: Sequence[bytes] = ()) -> None:
        """Take the master keys.

        Args:
            current: Seals whatever is written from now on.
            retired: Earlier keys, which still open what they sealed.
        """
        self._current = current
        self._masters = (current, *retired)
        self._master_of: dict[int, bytes] = {}
        self._seals: dict[int, Seal] = {}
        self._sealers: dict[tuple[int, str], Sealer] = {}
        self._seal_id = 0
        self._unused: set[int] = set()

    def admit(self, seal: Seal) -> bool:
        """Take a seal from the store; whether one of the master keys is the one it was made by."""
        for master in self._masters:
            if hmac.compare_digest(_derive(master, seal.salt, b"check", CHECK_BYTES), seal.check):
                self._master_of[seal.id] = master
                self._seals[seal.id] = seal
                return True
        return False

    def begin(
        self, seal_id: int, random_bytes: RandomBytes, *, master: bytes | None = None
    ) -> Seal:
        """Make a seal for this run; `use` it once it is stored, and not before.

        Args:
            seal_id: Its id, which no seal of the store has or had.
            random_bytes: Returns as many random bytes as asked for.
            master: The key to make it by; the current one if none is given.
        """
        salt = random_bytes(SALT_BYTES)
        check = _derive(master or self._current, salt, b"check", CHECK_BYTES)
        return Seal(id=seal_id, salt=salt, check=check)

    def use(self, seal: Seal, *, master: bytes | None = None) -> None:
        """Seal under this one from now on, and take the key it was made by for the current one."""
        if master is not None:
            self._masters = (master, *self._masters)
            self._current = master
        admitted = self.admit(seal)
        assert admitted
        self._seal_id = seal.id

    @property
    def fingerprint(self) -> bytes:
        """Tells the current key from others, and nothing about it."""
        return _derive(self._current, b"", b"fingerprint", CHECK_BYTES)

    @property
    def outdated(self) -> tuple[int, ...]:
        """The seals that were made by another master key than the current one."""
        return tuple(
            seal_id
            for seal_id, master in self._master_of.items()
            if master != self._current and seal_id not in self._unused
        )

    def set_aside(self, seal_ids: Sequence[int]) -> None:
        """Hear that nothing is stored under these any more; reads under way may still need them."""
        self._unused.update(seal_ids)

    def sealer(self, namespace: str) -> Sealer:
        """Return what seals in `namespace` in this run."""
        return self._sealers.get((self._seal_id, namespace)) or self._derived(
            self._seal_id, namespace
        )

    def opener(self, seal_id: int, namespace: str, key: bytes) -> Sealer:
        """Return what opens what was sealed under `seal_id` in `namespace`.

        Raises:
            CorruptDataError: There is no such seal; it names `key`.
        """
        known = self._sealers.get((seal_id, namespace))
        if known is not None:
            return known
        if seal_id not in self._seals:
            raise corrupt(namespace, key)
        return self._derived(seal_id, namespace)

    def _derived(self, seal_id: int, namespace: str) -> Sealer:
        seal = self._seals[seal_id]
        info = b"namespace " + namespace.encode()
        key = _derive(self._master_of[seal_id], seal.salt, info, MASTER_KEY_BYTES)
        if len(self._sealers) >= SEALERS_MAX:
            del self._sealers[next(iter(self._sealers))]
        sealer = Sealer(seal_id=seal_id, key=key, namespace=namespace)
        self._sealers[seal_id, namespace] = sealer
        return sealer


def _derive(master: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=b"atoll " + info).derive(master)


def read_key(path: Path) -> bytes:
    """Read a master key from its file: 64 hexadecimal digits.

    Raises:
        SealingKeyMissingError: There is no such file.
        SealingKeyWrongError: It holds something else.
    """
    try:
        text = path.read_bytes().strip()
    except FileNotFoundError as error:
        raise SealingKeyMissingError(path=str(path)) from error
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError as error:
        raise SealingKeyWrongError(path=str(path)) from error
    if len(key) != MASTER_KEY_BYTES:
        raise SealingKeyWrongError(path=str(path))
    return key


def create_key(path: Path, random_bytes: RandomBytes) -> bytes:
    """Make a master key and write it to a new file that only its owner may read, durably."""
    key = random_bytes(MASTER_KEY_BYTES)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with open(os.open(path, flags, stat.S_IRUSR | stat.S_IWUSR), "wb") as file:  # noqa: PTH123 - the mode
        file.write(key.hex().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
    return key


def retired_keys(path: Path) -> list[bytes]:
    """Read the keys that `replace_key` has set aside beside `path`."""
    found = sorted(path.parent.glob(f"{path.name}.retired-*"))[:RETIRED_KEYS_MAX]
    return [read_key(retired) for retired in found]


def replace_key(path: Path, random_bytes: RandomBytes) -> bytes:
    """Put a new master key in the place of the current one, and set that one aside.

    Whenever it is interrupted there is a current key, and no key has been lost.
    """
    taken = len(list(path.parent.glob(f"{path.name}.retired-*")))
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    key = create_key(fresh, random_bytes)
    path.with_name(f"{path.name}.retired-{taken + 1:03d}").hardlink_to(path)
    fresh.replace(path)
    sync_folder(path.parent)
    return key


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
