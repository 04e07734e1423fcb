"""Where the labelling server is and with what key, as the environment says it; what can't be is told by its name.

Values are never shown: a key is a secret, and an address may hold one.
"""

from __future__ import annotations

import importlib.util
import os
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from mneme._util.errors import LabelError

_HEADERS = ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
_QUOTES = "\"'`‘’‚‛“”„‟«»‹›"
_DEFAULT = "https://api.openai.com/v1"


class Server(NamedTuple):
    """What the environment names; None where it names none."""

    base_url: str | None
    key: str | None


def named_server() -> Server:
    """The server of the environment. Raises LabelError, naming the variable, for a value that can't be one."""
    for name in _HEADERS:
        _check_characters(name)
    _check_characters("OPENAI_BASE_URL")
    base_url = os.environ.get("OPENAI_BASE_URL") or None
    if base_url is not None:
        _check_url("OPENAI_BASE_URL", base_url, ("http", "https"))
        if urlsplit(base_url).path.rstrip("/").endswith("/chat/completions"):
            raise LabelError("OPENAI_BASE_URL ends with /chat/completions: give it without")
    for name in _proxy_names("http", "https", "all"):
        _check_proxy(name)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if (place := os.environ.get(name)) and not os.path.exists(place):
            raise LabelError(f"{name} names a place that is not there: correct it, or unset it")
    return Server(base_url, os.environ.get("OPENAI_API_KEY") or None)


def proxy_in_use(url: str) -> str | None:
    """The variable that names the proxy through which `url` is reached; None without one."""
    parts = urlsplit(url or _DEFAULT)
    if proxy_bypass(parts.hostname or ""):
        return None
    return next(iter(_proxy_names(parts.scheme, "all")), None)


def _proxy_names(*schemes: str) -> list[str]:
    """The variables of these schemes that name a proxy, in the order in which they count."""
    names = [name for scheme in schemes for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper())]
    return [name for name in names if os.environ.get(name)]


def _check_proxy(name: str) -> None:
    _check_characters(name)
    value = os.environ[name]
    address = value if "://" in value else f"http://{value}"
    _check_url(name, address, ("http", "https", "socks5", "socks5h"))
    if address.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise LabelError(
            f"{name} names a SOCKS proxy, for which a package is missing: pip install socksio, or unset {name}"
        )


def _check_characters(name: str) -> None:
    """Whether a value holds printable ASCII only, and no quotation mark at its ends."""
    value = os.environ.get(name, "")
    if value and value[0] in _QUOTES and value[-1] in _QUOTES:
        raise LabelError(f"{name} stands in quotation marks: set it without them")
    for place, character in enumerate(value, start=1):
        if not "!" <= character <= "~":
            raise LabelError(
                f"{name} holds {_kind(character)} (character {place} of {len(value)}): set it without"
            )


def _kind(character: str) -> str:
    if character in "\n\r":
        return "a line break"
    if character.isspace():
        return "white space"
    if character in _QUOTES:
        return "a curly quotation mark"
    return "a character that is not ASCII" if character.isprintable() else "a control character"


def _check_url(name: str, url: str, schemes: tuple[str, ...]) -> None:
    try:
        parts = urlsplit(url)
        whole = parts.hostname is not None and (parts.port is None or parts.port > 0)
    except ValueError:
        raise LabelError(f"{name} is no address: give {schemes[0]}://HOST:PORT") from None
    if parts.scheme not in schemes:
        raise LabelError(f"{name} must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if not whole:
        raise LabelError(f"{name} names no host: give {schemes[0]}://HOST:PORT")
