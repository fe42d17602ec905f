"""Log lines: readable on a terminal, JSON otherwise, libraries' included."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal, TextIO

import structlog

from padreel.core.decode import session_name
from padreel.dataset.committed import Committed

_log = structlog.get_logger("padreel")


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
        # Not structlog's own choice, which shows the local variables of every frame: a password is one of them.
        plain = structlog.dev.plain_traceback
        last.append(structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain))
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


def log_episode(committed: Committed, **where: object) -> None:
    """The progress line of an episode; nothing for a commit without one."""
    if committed.key is None or committed.reason is None:
        return
    marks = {name: count for name, count in (("forced", committed.forced), ("late", committed.late)) if count}
    _log.info(
        "episode",
        session=session_name(committed.key),
        **where,
        episode=committed.episode_index,
        frames=committed.frames,
        seconds=round(committed.seconds, 3),
        end=committed.reason.value,
        pad_age_max=round(committed.pad_age_max, 3),
        **marks,
    )
    quality = committed.quality
    if quality is not None and quality.quarantined:
        _log.warning(
            "episode quarantined: it is kept, but not merged",
            session=session_name(committed.key),
            **where,
            episode=committed.episode_index,
            quality=round(quality.score, 3),
            threshold=quality.threshold,
            **{name: round(value, 3) for name, value in quality.components.items()},
        )
