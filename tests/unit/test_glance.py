"""A glance at a record's bytes and a judgement of the record give the same answers."""

from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.model import CacheStatus, Entry, Reading
from atoll.core.version import Version
from atoll.location.age import NEVER, Feed, Record
from atoll.location.codec import encode
from atoll.location.glance import Glimpse, glance
from atoll.location.judging import Demand, Ground, has_expired, judge, refresh_age_ms

ASKED_MS = 100_000
NAMESPACE = "0123456789abcdef0123456789abcdef"
GENERATION = 3
REFRESH_AT = 0.75

# Few values, close to each other and to the bounds, so that every rule is met from both sides.
edges = [NEVER, *(ASKED_MS - ago for ago in (0, 750, 1000, 4500, 5000, 5001, 45_000, 60_000))]
instants = st.sampled_from(edges) | st.integers(ASKED_MS - 70_000, ASKED_MS)
seldom = st.sampled_from([False] * 7 + [True])
sequences = st.integers(0, 5)
versions = st.integers(0, 2**62).map(Version)
entries = st.none() | st.builds(
    Entry,
    key=st.just("k"),
    version=versions,
    value=st.none() | st.binary(max_size=4),
    metadata=st.none() | st.just(b"{}"),
    expiration=st.none() | st.integers(9, 11),
)
records = st.builds(
    Record,
    entry=entries,
    sequence=sequences,
    instant_ms=instants,
    superseded=seldom,
    uncovered=seldom,
)
grounds = st.builds(
    Ground,
    name=st.just("LHR"),
    incarnation=st.just(1),
    feed=st.builds(
        Feed,
        applied=sequences,
        instant_ms=instants,
        subscribed=st.sampled_from(({}, {NAMESPACE: 2}, {"other": 0})),
    ),
    trusted_ms=st.just(NEVER) | instants,
    lost_ms=st.just(NEVER) | instants,
    central_us=st.sampled_from((9_000_000, 9_999_999, 10_000_000, 11_000_000)),
)


def stored(record: Record) -> Record:
    """Return a record as reading it back gives it."""
    entry = record.entry
    if entry is not None and entry.value is None:
        entry = Entry(key=entry.key, version=entry.version, value=None, metadata=entry.metadata)
    return Record(
        entry=entry,
        sequence=record.sequence,
        instant_ms=record.instant_ms,
        superseded=record.superseded,
        uncovered=record.uncovered,
    )


def plain(record: Record, ground: Ground, demand: Demand) -> Reading | None:
    """Return the judgement if nothing about it takes a closer look."""
    reading = judge(demand, record, ground)
    if (
        reading is None
        or record.uncovered
        or reading.order_unknown
        or has_expired(record, reading)
        or refresh_age_ms(demand, reading, ground, refresh_at=REFRESH_AT) is not None
    ):
        return None
    return reading


def seen(reading: Reading, ground: Ground) -> Glimpse:
    """Return a judgement in the form of a glimpse."""
    entry = reading.entry
    assert reading.age_ms is not None
    assert (reading.stale, reading.token, reading.node) == (False, None, ground.name)
    assert reading.cache is (CacheStatus.NEGATIVE if entry is None else CacheStatus.HIT)
    if entry is None:
        version, value, metadata, expiration = reading.buried or 0, None, None, None
    else:
        assert isinstance(entry.value, bytes)
        version, value = entry.version, entry.value
        metadata, expiration = entry.metadata, entry.expiration
    return Glimpse(value, metadata, version, expiration, reading.position.sequence, reading.age_ms)


@settings(max_examples=2000)
@given(record=records, ground=grounds, age_ms_max=st.sampled_from((0, 1000, 6000, 60_000)))
def test_a_glance_says_what_a_judgement_says(
    record: Record, ground: Ground, age_ms_max: int
) -> None:
    """Whatever is plain is answered at a glance, and nothing else is."""
    demand = Demand(namespace=NAMESPACE, key="k", asked_ms=ASKED_MS, age_ms_max=age_ms_max)
    raw = encode(NAMESPACE, "k", record, generation=GENERATION, large=None)

    found = glance(
        raw,
        namespace=NAMESPACE,
        place=f"{NAMESPACE}k".encode(),
        ground=ground,
        generation=GENERATION,
        asked_ms=ASKED_MS,
        age_ms_max=age_ms_max,
        refresh_at=REFRESH_AT,
        central_us=lambda: ground.central_us,
    )

    reading = plain(stored(record), ground, demand)
    assert found == (None if reading is None else seen(reading, ground))


def test_another_key_another_boot_and_a_large_value_take_a_closer_look() -> None:
    """What stands there is then not what was asked about, or not all of it."""
    ground = Ground(
        name="LHR",
        incarnation=1,
        feed=Feed(),
        trusted_ms=NEVER,
        lost_ms=NEVER,
        central_us=0,
    )
    record = Record(
        entry=Entry(key="k", version=Version(1), value=b"v"), sequence=1, instant_ms=ASKED_MS
    )
    raw = encode(NAMESPACE, "k", record, generation=GENERATION, large=None)

    def at(place: str, generation: int) -> Glimpse | None:
        return glance(
            raw,
            namespace=place[: len(NAMESPACE)],
            place=place.encode(),
            ground=ground,
            generation=generation,
            asked_ms=ASKED_MS,
            age_ms_max=1000,
            refresh_at=REFRESH_AT,
            central_us=lambda: None,
        )

    assert at(NAMESPACE + "k", GENERATION) is not None
    assert at(NAMESPACE + "K", GENERATION) is None
    assert at(NAMESPACE[:-1] + "k", GENERATION) is None
    assert at(NAMESPACE + "k", GENERATION - 1) is None
