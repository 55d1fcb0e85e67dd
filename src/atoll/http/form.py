"""Multipart forms that put a value: the parts `value` and `metadata`, in either order.

File names and part types are ignored, and so are parts of other names. The value is handed on
piece by piece, unchanged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from atoll.core.errors import BodyInvalidError, MetadataTooLargeError, ValueTooLargeError

METADATA_TEXT_FACTOR_MAX: Final = 16
"""How many times its limit metadata may measure before it is compacted: indented, escaped."""

PARTS_MAX: Final = 16

_FORM_TYPE: Final = b"multipart/form-data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a form said."""

    value: bytes
    metadata: bytes | None
    """Text as given; `None` without such a part."""


def boundary_of(content_type: bytes | None) -> tuple[bool, bytes | None]:
    """Tell whether a content type announces a form, and the boundary that it names."""
    if content_type is None or content_type[: len(_FORM_TYPE)].lower() != _FORM_TYPE:
        return False, None
    kind, options = parse_options_header(content_type)
    return kind == _FORM_TYPE, options.get(b"boundary")


class FormParser:
    """Takes the pieces of one form, as they come."""

    def __init__(
        self,
        boundary: bytes | None,
        *,
        value_sink: Callable[[bytes], None],
        value_bytes_max: int,
        metadata_bytes_max: int,
    ) -> None:
        """Begin a form.

        Args:
            boundary: As the content type names it.
            value_sink: Takes the pieces of the value up to its limit.
            value_bytes_max: The limit of values.
            metadata_bytes_max: The limit of metadata, compacted.

        Raises:
            BodyInvalidError: There is no boundary, or none that can be.
        """
        if not boundary:
            raise BodyInvalidError(
                detail="the content type is multipart/form-data without a boundary"
            )
        self._value_sink = value_sink
        self._value_bytes_max = value_bytes_max
        self._metadata_bytes_max = metadata_bytes_max
        self._value_bytes = 0
        self._metadata: list[bytes] = []
        self._metadata_bytes = 0
        self._header_name = b""
        self._header_value = b""
        self._part = ""
        self._parts_seen: list[str] = []
        self._complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._take_header_name,
                    "on_header_value": self._take_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_content,
                    "on_part_data": self._take_content,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise BodyInvalidError(detail=str(error)) from error

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the body.

        Raises:
            BodyInvalidError: It is not a form.
            MetadataTooLargeError: The part `metadata` exceeds every bound.
        """
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise BodyInvalidError(detail=f"the body is not a multipart form: {error}") from error

    def finish(self) -> bytes | None:
        """Return the metadata's text, once the whole body was fed; `None` without such a part.

        Raises:
            BodyInvalidError: The form has no end, or no part `value`.
            ValueTooLargeError: The value was larger than its limit; only its beginning was kept.
        """
        if not self._complete:
            raise BodyInvalidError(detail="the multipart form has no closing boundary")
        if "value" not in self._parts_seen:
            raise BodyInvalidError(detail="the multipart form has no part named 'value'")
        if self._value_bytes > self._value_bytes_max:
            raise ValueTooLargeError(
                size_bytes=self._value_bytes, size_bytes_max=self._value_bytes_max
            )
        return b"".join(self._metadata) if "metadata" in self._parts_seen else None

    def _begin_part(self) -> None:
        self._part = ""

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            self._part = options.get(b"name", b"").decode("latin-1")
        self._header_name = self._header_value = b""

    def _begin_content(self) -> None:
        if self._part in self._parts_seen and self._part in {"value", "metadata"}:
            raise BodyInvalidError(detail=f"the multipart form has two parts named {self._part!r}")
        self._parts_seen.append(self._part)
        if len(self._parts_seen) > PARTS_MAX:
            raise BodyInvalidError(detail=f"the multipart form has more than {PARTS_MAX} parts")

    def _take_content(self, data: bytes, start: int, end: int) -> None:
        if self._part == "value":
            self._value_bytes += end - start
            if self._value_bytes <= self._value_bytes_max:
                self._value_sink(data[start:end])
        elif self._part == "metadata":
            self._metadata_bytes += end - start
            if self._metadata_bytes > self._metadata_bytes_max * METADATA_TEXT_FACTOR_MAX:
                raise MetadataTooLargeError(
                    size_bytes=self._metadata_bytes, size_bytes_max=self._metadata_bytes_max
                )
            self._metadata.append(data[start:end])

    def _end(self) -> None:
        self._complete = True
