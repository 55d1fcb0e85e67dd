"""Every error this package raises on purpose, in one tree.

    AtollError
        InvalidRequestError          the caller's fault; the same request fails again
            KeyEmptyError, KeyTooLongError, KeyIllegalError, KeyEncodingError
            ValueTooLargeError, MetadataTooLargeError, MetadataInvalidError
            ExpirationInvalidError, ExpirationTtlInvalidError
            CursorInvalidError, ParameterInvalidError, BodyInvalidError, BodyTooLargeError
            BulkInvalidError, BulkReadInvalidError, BulkReadTooLargeError
            TitleInvalidError, TitleTakenError, NamespaceIdInvalidError
            ConditionInvalidError, IdempotencyKeyReusedError
            RouteNotFoundError, MethodNotAllowedError
        NotFoundError                what was asked for is not there
            KeyNotFoundError, NamespaceNotFoundError, AccountNotFoundError, TokenNotFoundError
            NodeNotFoundError, and two of `core.location_errors`
        UnauthenticatedError         no credentials, or none that we know
        ForbiddenError               credentials that do not reach this far
        ConditionFailedError         If-Match or If-None-Match did not hold
        LimitReachedError            allowed in itself, but too much of it
            RewriteTooSoonError, TooManyNamespacesError, and that of `core.quota_errors`
        UnavailableError             cannot be answered now; later it may
            NotArrivedError, DeadlinePassedError, OutcomeForgottenError, StoppingError,
            and those of `core.location_errors`
        PositionTooOldError          nobody remembers what changed since
        StoreError                   the store cannot do what it must
            DiskFullError, StoreInUseError, StoreNotFoundError, StoreExistsError,
            SchemaTooNewError, SealingKeyMissingError, SealingKeyWrongError, CorruptDataError
        ConfigError                  a setting is unknown or out of range
        RemoteError                  another node or client library answered with an error

A caller who branches on an error reads `code`, which never changes once released; the message
is for a person and may. The facts in the message are attributes too. Where Workers KV fixes a
message, ours is that message.
"""

from typing import ClassVar


class AtollError(Exception):
    """Base of every error this package raises on purpose."""

    code: ClassVar[str] = "internal"


class InvalidRequestError(AtollError):
    """The caller's fault; the same request fails again."""

    code = "invalid_request"


class KeyEmptyError(InvalidRequestError):
    """A key has at least one byte."""

    code = "key_empty"

    def __init__(self) -> None:
        super().__init__("Key names must not be empty")


class KeyTooLongError(InvalidRequestError):
    """A key, or a prefix, is longer than the limit."""

    code = "key_too_long"

    def __init__(self, *, size_bytes: int, size_bytes_max: int) -> None:
        self.size_bytes = size_bytes
        self.size_bytes_max = size_bytes_max
        super().__init__(
            f"UTF-8 encoded length of {size_bytes} exceeds key length limit of {size_bytes_max}."
        )


class KeyIllegalError(InvalidRequestError):
    """A key is `.` or `..`, which URLs fold away."""

    code = "key_illegal"

    def __init__(self, *, key: str) -> None:
        self.key = key
        super().__init__(f'Illegal key name "{key}". Please use a different name.')


class KeyEncodingError(InvalidRequestError):
    """A key in a URL is not percent-encoded UTF-8."""

    code = "key_encoding"

    def __init__(self) -> None:
        super().__init__(
            "Could not URL-decode key name. Percent-encode the UTF-8 bytes of the key;"
            " a percent sign itself is %25."
        )


class ValueTooLargeError(InvalidRequestError):
    """A value is larger than the limit."""

    code = "value_too_large"

    def __init__(self, *, size_bytes: int, size_bytes_max: int) -> None:
        self.size_bytes = size_bytes
        self.size_bytes_max = size_bytes_max
        super().__init__(f"Value length of {size_bytes} exceeds limit of {size_bytes_max}.")


class MetadataTooLargeError(InvalidRequestError):
    """Metadata, compactly serialised, is larger than the limit."""

    code = "metadata_too_large"

    def __init__(self, *, size_bytes: int, size_bytes_max: int) -> None:
        self.size_bytes = size_bytes
        self.size_bytes_max = size_bytes_max
        super().__init__(f"Metadata length of {size_bytes} exceeds limit of {size_bytes_max}.")


class MetadataInvalidError(InvalidRequestError):
    """Metadata is not JSON."""

    code = "metadata_invalid"

    def __init__(self, *, detail: str) -> None:
        self.detail = detail
        super().__init__(f"Metadata must be valid JSON: {detail}")


class ExpirationInvalidError(InvalidRequestError):
    """`expiration` is not a time that lies far enough ahead."""

    code = "expiration_invalid"

    def __init__(self, *, given: str, rule: str) -> None:
        self.given = given
        self.rule = rule
        super().__init__(f"Invalid expiration of {given}. {rule}")


class ExpirationTtlInvalidError(InvalidRequestError):
    """`expiration_ttl` is not a number of seconds that is large enough."""

    code = "expiration_ttl_invalid"

    def __init__(self, *, given: str, rule: str) -> None:
        self.given = given
        self.rule = rule
        super().__init__(f"Invalid expiration_ttl of {given}. {rule}")


class CursorInvalidError(InvalidRequestError):
    """A cursor is not one that this listing gave out."""

    code = "cursor_invalid"

    def __init__(self) -> None:
        super().__init__(
            "Invalid cursor: it does not belong to this listing. Pass the cursor of the previous"
            " page with the same namespace and prefix, or none to start over."
        )


class ParameterInvalidError(InvalidRequestError):
    """A query parameter or header is out of range or unknown."""

    code = "parameter_invalid"

    def __init__(self, *, name: str, given: str, rule: str) -> None:
        self.name = name
        self.given = given
        self.rule = rule
        super().__init__(f"Invalid {name} of {given!r}. {rule}")


class BodyInvalidError(InvalidRequestError):
    """A request's body is not what this endpoint takes."""

    code = "body_invalid"

    def __init__(self, *, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class BodyTooLargeError(InvalidRequestError):
    """A request's body is larger than this endpoint takes."""

    code = "body_too_large"

    def __init__(self, *, size_bytes_max: int) -> None:
        self.size_bytes_max = size_bytes_max
        super().__init__(f"The request body exceeds the limit of {size_bytes_max} bytes.")


class BulkInvalidError(InvalidRequestError):
    """A bulk request is refused whole because of one of its members; nothing was written."""

    code = "bulk_invalid"

    def __init__(self, *, index: int, key: str, cause: AtollError | str) -> None:
        self.index = index
        self.key = key
        super().__init__(f"item {index}, key {key!r}: {cause}. Nothing was written.")


class BulkReadInvalidError(InvalidRequestError):
    """A bulk read asks for too few or too many keys, or for values that are not text."""

    code = "bulk_read_invalid"

    def __init__(self, *, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class BulkReadTooLargeError(InvalidRequestError):
    """The values of a bulk read add up to more than one answer may hold."""

    code = "bulk_read_too_large"

    def __init__(self, *, size_bytes_max: int) -> None:
        self.size_bytes_max = size_bytes_max
        super().__init__(
            f"Total size of request exceeds the limit of {size_bytes_max // 1_000_000}MB"
        )


class TitleInvalidError(InvalidRequestError):
    """A namespace's title is missing, empty or too long."""

    code = "title_invalid"

    def __init__(self, *, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class TitleTakenError(InvalidRequestError):
    """Another namespace of the account has this title."""

    code = "title_taken"

    def __init__(self, *, title: str) -> None:
        self.title = title
        super().__init__("a namespace with this account ID and title already exists")


class NamespaceIdInvalidError(InvalidRequestError):
    """A namespace id is 32 hexadecimal digits."""

    code = "namespace_id_invalid"

    def __init__(self, *, given: str) -> None:
        self.given = given
        super().__init__(f"namespace ID {given!r} is not 32 hexadecimal digits")


class ConditionInvalidError(InvalidRequestError):
    """`If-Match` or `If-None-Match` is not of a form that we take."""

    code = "condition_invalid"

    def __init__(self, *, given: str) -> None:
        self.given = given
        super().__init__(
            f'Invalid condition {given!r}. Use If-Match: "<version>" with the ETag of an earlier'
            " answer, If-Match: * or If-None-Match: *, and only one of them."
        )


class IdempotencyKeyReusedError(InvalidRequestError):
    """An `Idempotency-Key` came with another request than the one it was first sent with."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was sent before with a different request. Nothing was written;"
            " use a new key for a new request."
        )


class RouteNotFoundError(InvalidRequestError):
    """No such path."""

    code = "route_not_found"

    def __init__(self, *, path: str) -> None:
        self.path = path
        super().__init__(f"Could not route to {path}, perhaps your object identifier is invalid?")


class MethodNotAllowedError(InvalidRequestError):
    """The path exists, but not for this method."""

    code = "method_not_allowed"

    def __init__(self, *, method: str, allowed: tuple[str, ...]) -> None:
        self.method = method
        self.allowed = allowed
        super().__init__(f"Method {method} not allowed here; use {' or '.join(allowed)}")


class NotFoundError(AtollError):
    """What was asked for is not there."""

    code = "not_found"


class KeyNotFoundError(NotFoundError):
    """The key does not exist, or has expired."""

    code = "key_not_found"

    def __init__(self) -> None:
        super().__init__("key not found")


class NamespaceNotFoundError(NotFoundError):
    """No such namespace in this account."""

    code = "namespace_not_found"

    def __init__(self) -> None:
        super().__init__("namespace not found")


class AccountNotFoundError(NotFoundError):
    """No such account."""

    code = "account_not_found"

    def __init__(self) -> None:
        super().__init__("account not found")


class TokenNotFoundError(NotFoundError):
    """No such token in this account."""

    code = "token_not_found"

    def __init__(self) -> None:
        super().__init__("token not found")


class NodeNotFoundError(NotFoundError):
    """No location of this name has a credential."""

    code = "node_not_found"

    def __init__(self, *, name: str) -> None:
        self.name = name
        super().__init__(f"no node {name!r} has a credential")


class UnauthenticatedError(AtollError):
    """No credentials came, or none that we know."""

    code = "unauthenticated"

    def __init__(self, *, detail: str = "Authentication error", missing: bool = False) -> None:
        self.missing = missing
        super().__init__(detail)


class ForbiddenError(AtollError):
    """The credentials are good, but do not reach this far."""

    code = "forbidden"

    def __init__(self) -> None:
        super().__init__("Authentication error: these credentials do not allow this request")


class ConditionFailedError(AtollError):
    """`If-Match` or `If-None-Match` did not hold; nothing was written."""

    code = "condition_failed"

    def __init__(self, *, key: str, version_current: int | None) -> None:
        self.key = key
        self.version_current = version_current
        now = "the key is absent" if version_current is None else f"it is {version_current}"
        super().__init__(f"the key's version is not the one required: {now} now")


class LimitReachedError(AtollError):
    """Allowed in itself, but there is too much of it."""

    code = "limit_reached"


class RewriteTooSoonError(LimitReachedError):
    """The same key was written a moment ago."""

    code = "rewrite_too_soon"

    def __init__(self, *, key: str, retry_after_ms: int, interval_ms: int) -> None:
        self.key = key
        self.retry_after_ms = retry_after_ms
        self.interval_ms = interval_ms
        super().__init__(
            f"one write to the same key per {interval_ms} ms; try again in {retry_after_ms} ms"
        )


class TooManyNamespacesError(LimitReachedError):
    """The account holds as many namespaces as it may."""

    code = "too_many_namespaces"

    def __init__(self, *, count_max: int) -> None:
        self.count_max = count_max
        super().__init__(f"this account already has {count_max} namespaces, the limit")


class PositionTooOldError(AtollError):
    """What changed since the position asked for is not remembered here."""

    code = "position_too_old"

    def __init__(self, *, position: str, start_at: str) -> None:
        self.position = position
        self.start_at = start_at
        """From here on every change is told."""
        super().__init__(
            f"what changed since {position} is not remembered here. Read what you need anew, at or"
            f" after {start_at}, and follow the changes from there"
        )


class UnavailableError(AtollError):
    """It cannot be answered now; later it may. `retry_after_s` says when to ask again."""

    code = "unavailable"
    retry_after_s: ClassVar[int] = 1


class NotArrivedError(UnavailableError):
    """The position that the request requires has not arrived here."""

    code = "not_arrived"

    def __init__(self, *, required: str, held: str) -> None:
        self.required = required
        self.held = held
        super().__init__(f"position {required} has not arrived here; this node is at {held}")


class DeadlinePassedError(UnavailableError):
    """A write arrived after its sender had stopped waiting; it was not applied."""

    code = "deadline_passed"

    def __init__(self, *, late_us: int) -> None:
        self.late_us = late_us
        super().__init__(f"the write arrived {late_us} us after its deadline and was not applied")


class OutcomeForgottenError(UnavailableError):
    """A write's identity lies below what its sender called resolved; it was not applied again."""

    code = "outcome_forgotten"

    def __init__(self) -> None:
        super().__init__("this write was resolved earlier and its outcome has been forgotten")


class StoppingError(UnavailableError):
    """The node is shutting down."""

    code = "stopping"

    def __init__(self) -> None:
        super().__init__("this node is shutting down; ask again")


class StoreError(AtollError):
    """The store cannot do what it must. Nothing that was acknowledged is lost."""

    code = "store_failed"


class DiskFullError(StoreError):
    """There is no room for the write; it was not applied."""

    code = "disk_full"

    def __init__(self) -> None:
        super().__init__(
            "the disk is full: the write was not applied, and nothing that was acknowledged is"
            " lost. Make room, then repeat it."
        )


class StoreInUseError(StoreError):
    """Another process has this data folder open."""

    code = "store_in_use"

    def __init__(self, *, path: str, holder: str) -> None:
        self.path = path
        self.holder = holder
        super().__init__(
            f"the data in {path} is in use by {holder}. Stop it first, or use another folder."
        )


class StoreNotFoundError(StoreError):
    """There is no store where one is needed."""

    code = "store_not_found"

    def __init__(self, *, path: str) -> None:
        self.path = path
        super().__init__(f"there is no Atoll store in {path}. `atoll init` makes one.")


class StoreExistsError(StoreError):
    """There is a store already where a new one was to be made; it was left as it is."""

    code = "store_exists"

    def __init__(self, *, path: str) -> None:
        self.path = path
        super().__init__(f"{path} already holds a store; choose an empty folder.")


class SchemaTooNewError(StoreError):
    """The store was written by a later release."""

    code = "schema_too_new"

    def __init__(self, *, schema: int, schema_max: int) -> None:
        self.schema = schema
        self.schema_max = schema_max
        super().__init__(
            f"the store has schema {schema}, this release knows schemas up to {schema_max}."
            " Run the release that wrote it, or a later one. Nothing was changed."
        )


class SealingKeyMissingError(StoreError):
    """The store is sealed and its key is not where it should be."""

    code = "sealing_key_missing"

    def __init__(self, *, path: str) -> None:
        self.path = path
        super().__init__(
            f"the store is sealed, and its key is not in {path}. Put the key file back or name"
            " its place; without it the values cannot be read. Nothing was changed."
        )


class SealingKeyWrongError(StoreError):
    """The sealing key given is not the one that the store was sealed with."""

    code = "sealing_key_wrong"

    def __init__(self, *, path: str) -> None:
        self.path = path
        super().__init__(
            f"the sealing key in {path} does not open this store. Give the key that it was sealed"
            " with. Nothing was changed."
        )


class CorruptDataError(StoreError):
    """Stored bytes cannot be read back."""

    code = "corrupt_data"

    def __init__(self, *, where: str) -> None:
        self.where = where
        super().__init__(f"stored data cannot be read back: {where}. Restore a backup.")


class ConfigError(AtollError):
    """A setting is unknown or out of range."""

    code = "config_invalid"

    def __init__(self, *, name: str, given: str, rule: str, origin: str) -> None:
        self.name = name
        self.given = given
        self.rule = rule
        self.origin = origin
        super().__init__(f"setting {name} = {given!r} ({origin}): {rule}")


class RemoteError(AtollError):
    """A server answered with an error."""

    code = "remote"

    def __init__(self, *, status: int, remote_code: str, message: str) -> None:
        self.status = status
        self.remote_code = remote_code
        super().__init__(message)
