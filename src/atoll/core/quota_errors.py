"""The error of quotas, a part of the tree in `core.errors`."""

from atoll.core.errors import LimitReachedError


class QuotaReachedError(LimitReachedError):
    """A hard quota of the account or the namespace is used up."""

    code = "quota_reached"

    def __init__(
        self, *, meter: str, limit: int, period: str, ends_s: int, retry_after_s: int
    ) -> None:
        self.meter = meter
        self.limit = limit
        self.period = period
        self.ends_s = ends_s
        self.retry_after_s = retry_after_s
        super().__init__(
            f"the quota of {limit} ({meter}) in a {period} is used up;"
            f" it begins anew in {retry_after_s} s"
        )
