"""Logs: one JSON line an event, once, to standard output, with the ids of the journey and never a secret."""

import logging
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

import structlog
from structlog.contextvars import merge_contextvars
from structlog.typing import EventDict, WrappedLogger

HIDDEN = "<hidden>"
SHORTEST_SECRET = 8
QUIET = (
    "ccxt",
    "ccxt.base.exchange",
    "urllib3",
    "aiohttp.access",
    "aiohttp.client",
    "apprise",
    "asyncio",
    "httpx",
)

SECRET_NAME = re.compile(
    r"(?i)^(.*[_-])?(secret|signature|password|passphrase|passwd|token|api[_-]?key|x-mbx-apikey|private[_-]?key"
    r"|listen[_-]?key|authorization|cookie|credentials?|csrf\w*|session[_-]?id)$"
)
ASSIGNED = re.compile(
    r"(?i)(\b(?:[\w-]*(?:secret|signature|password|passphrase|api[_-]?key|apikey|listen[_-]?key|token|private[_-]?key))"
    r"[\"']?\s*[=:]\s*[\"']?)([^\s\"'&,;}{)\]]+)"
)
BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+")
IN_PATH = re.compile(r"(/webhooks/[\w-]+/)[^\s/?#\"']+")
IN_ADDRESS = re.compile(r"(\w+://[^\s:/@]*):[^\s@/]+@")


class Redactor:
    """Hides secrets by name, by shape and, for those it was given, by value."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: a short secret inside a long one must not leave its ends behind.
        self._secrets = sorted({s for s in secrets if len(s) >= SHORTEST_SECRET}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without its secrets."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        text = BEARER.sub(lambda found: f"{found[1]} {HIDDEN}", text)
        text = ASSIGNED.sub(lambda found: f"{found[1]}{HIDDEN}", text)
        text = IN_PATH.sub(lambda found: f"{found[1]}{HIDDEN}", text)
        return IN_ADDRESS.sub(lambda found: f"{found[1]}:{HIDDEN}@", text)

    def value(self, value: Any) -> Any:
        """The same value, of any depth, without secrets."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            return self.text(value.decode("utf-8", "replace"))
        if isinstance(value, Mapping):
            return {key: HIDDEN if _names_a_secret(key) else self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return self.text(str(value))

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """As a step of structlog."""
        return {key: HIDDEN if _names_a_secret(key) else self.value(item) for key, item in event.items()}


def redact(value: Any, secrets: Iterable[str] = ()) -> Any:
    """The value without anything that looks like, is named as, or is one of the given secrets."""
    return Redactor(secrets).value(value)


def _names_a_secret(key: Any) -> bool:
    return isinstance(key, str) and SECRET_NAME.match(key) is not None


def configure(options: Mapping[str, Any]) -> None:
    """Set up logging once for a process.

    `options` holds `level` (a name of the standard library), `secrets` (values to hide wherever they occur)
    and `as_json`.
    """
    shared: list[Any] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    _install_one_handler(shared, Redactor(options.get("secrets", ())), options)


def _install_one_handler(shared: list[Any], redactor: Redactor, options: Mapping[str, Any]) -> None:
    renderer: Any = structlog.processors.JSONRenderer(default=str, ensure_ascii=True)
    if not options.get("as_json", True):
        renderer = structlog.dev.ConsoleRenderer(colors=False)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                drop_colours,
                redactor,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(options.get("level", "INFO"))
    logging.getLogger("django.request").setLevel(logging.ERROR)  # the rest is in "request answered"
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def drop_colours(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave out the second, coloured copy of its message that the web server adds to an event."""
    event.pop("color_message", None)
    return event


def current_trace() -> dict[str, str]:
    """The ids of the journey bound to what is running now."""
    bound: MutableMapping[str, Any] = structlog.contextvars.get_contextvars()
    return {key: str(bound[key]) for key in ("trace_id", "client_order_id") if key in bound}
