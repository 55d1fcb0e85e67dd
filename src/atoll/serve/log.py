"""The log: every event, ours and the libraries', to standard error in one form."""

import contextlib
import logging
import sys
from typing import Any, BinaryIO, TextIO, cast

import msgspec
import structlog
from structlog.tracebacks import ExceptionDictTransformer

from atoll.config import Config

log = structlog.stdlib.get_logger()


def configure_log(config: Config) -> None:
    """Send every event, ours and uvicorn's, to standard error in the form that was asked for."""
    level = logging.getLevelNamesMapping()[config.log_level.upper()]
    as_json = config.log_format == "json" or (
        config.log_format == "auto" and not sys.stderr.isatty()
    )
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        # Without the values of local variables: some are secrets, some are other people's data.
        traceback = ExceptionDictTransformer(show_locals=False)
        shared += [
            structlog.processors.ExceptionRenderer(traceback),
            structlog.processors.JSONRenderer(_line),
        ]
        structlog.configure(
            processors=shared,
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.BytesLoggerFactory(
                cast("BinaryIO", _Lossy(sys.stderr.buffer))
            ),
        )
    else:
        plain = structlog.dev.plain_traceback
        colours = sys.stderr.isatty()
        shared += [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)]
        structlog.configure(
            processors=shared,
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Lossy(sys.stderr))),
        )
    # uvicorn tells of its own start and stop; so do we, so that only its complaints are left.
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[_Forwarded()], force=True)


def _line(event: dict[str, object], **_: object) -> bytes:
    """Write an event with what people look for first in front."""
    first = {name: event.pop(name, None) for name in ("timestamp", "level", "event")}
    return msgspec.json.encode({**first, **event}, enc_hook=repr)


class _Lossy:
    """A stream for the log. On a full disk lines are lost, rather than what was to be logged."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - of text or of bytes
        self._stream = stream

    def write(self, line: Any) -> None:  # noqa: ANN401 - as above
        """Write what can be written."""
        with contextlib.suppress(OSError):
            self._stream.write(line)

    def flush(self) -> None:
        """Flush it, as far as that works."""
        with contextlib.suppress(OSError):
            self._stream.flush()


class _Forwarded(logging.Handler):
    """Passes on what libraries log, as one of our events."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        log.log(
            record.levelno,
            "library_logged",
            library=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info,
        )
