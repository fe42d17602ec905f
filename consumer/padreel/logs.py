"""Log lines: readable on a terminal, JSON otherwise, libraries' included."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal, TextIO

import structlog


def configure_logging(log_format: Literal["auto", "json", "console"], stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (stderr); 'auto' asks whether that is a terminal."""
    out = stream if stream is not None else sys.stderr
    console = log_format == "console" or (log_format == "auto" and out.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not console),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    last: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if console:
        last.append(structlog.dev.ConsoleRenderer(colors=out.isatty()))
    else:
        last += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last)
    target = logging.StreamHandler(out)
    target.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [target]
    root.setLevel(logging.INFO)
    # Its INFO lines say what padreel's own say better; its warnings stay.
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
