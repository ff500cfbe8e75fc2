"""What the environment says about reaching the hub: right, or named in one line at once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trajectory.errors import TrajectoryError
from trajectory.hub.errors import Misconfigured

if TYPE_CHECKING:
    import httpx2

NUMBERS = ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")
"""Variables that huggingface_hub reads as whole numbers when it is imported."""

_TOKEN_PLACES = ("HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME")
"""Variables that say where the stored access token lies; the first that is set counts."""

_TRUSTED: set[tuple[str, str, int | None]] = set()
"""Scheme, host and port of the configured hubs."""

_AGENT = "HF_HUB_USER_AGENT_ORIGIN"

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def check_numbers() -> None:
    """Raise TrajectoryError if a variable cannot be read that libraries read on import."""
    for name in NUMBERS:
        text = os.environ.get(name)
        try:
            int(text or 0)
        except ValueError:
            raise TrajectoryError(f"{name}: '{text}' is not a whole number of seconds") from None


def client(endpoint: str) -> httpx2.Client:
    """``huggingface_hub``'s own client, as the environment wants it; nothing is asked yet.

    It sends the access token to this endpoint, and others so named in this process, alone: the
    library's own listings follow a link to the next page wherever it leads.

    Raises Misconfigured, naming the variable, if it cannot be set up.
    """
    import httpx2
    from huggingface_hub.utils import get_session

    check_endpoint(endpoint)
    check_token()
    check_agent()
    try:
        session = get_session()
    except (ValueError, ImportError, OSError, httpx2.InvalidURL) as error:
        raise misconfigured(error) from None
    _TRUSTED.add(_origin(httpx2.URL(endpoint)))
    if _keep_token not in (hooks := session.event_hooks["request"]):
        hooks.append(_keep_token)
    return session


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _keep_token(request: httpx2.Request) -> None:
    """Take the access token out of a request to another host than a configured one."""
    if _origin(request.url) not in _TRUSTED:
        request.headers.pop("Authorization", None)


def check_endpoint(endpoint: str) -> None:
    """Raise Misconfigured unless requests can be sent to ``endpoint``."""
    try:
        parts = urlsplit(endpoint)
        right = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port, (parts.hostname or "").encode("idna")
    except ValueError:  # of a name with an empty part as well
        right = False
    if not right or " " in endpoint or not endpoint.isprintable():  # which parsing passes over
        raise Misconfigured(
            f"HF_ENDPOINT: '{endpoint}' is not a hub's address; write https://host or unset it"
        )


def check_token() -> None:
    """Raise Misconfigured if the access token cannot be read, or has characters that no request
    can carry."""
    from huggingface_hub import constants, get_token

    try:
        token = get_token() or ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        by = next((n for n in _TOKEN_PLACES if os.environ.get(n)), None)
        raise Misconfigured(
            f"{by or 'the stored access token'}: {constants.HF_TOKEN_PATH} cannot be read "
            f"({reason}); " + (f"correct or unset {by}" if by else "log in again")
        ) from None
    if odd := _unsendable(token):
        place = "HF_TOKEN" if os.environ.get("HF_TOKEN") else "the stored access token"
        raise Misconfigured(f"{place}: has {odd}; copy the token again, without quotes")


def check_agent() -> None:
    """Raise Misconfigured if a request cannot carry what is told of its sender."""
    if odd := _unsendable(os.environ.get(_AGENT, "")):
        raise Misconfigured(f"{_AGENT}: has {odd}; correct or unset it")


def _unsendable(text: str) -> str | None:
    """A character that the head of a request cannot have; None if there is none."""
    odd = next((c for c in text if not (c.isascii() and c.isprintable())), None)
    return None if odd is None else f"the character U+{ord(odd):04X}, which cannot be sent"


def token_advice() -> str:
    """What helps somebody to whom the hub refuses access."""
    from huggingface_hub.utils import build_hf_headers

    if "authorization" not in build_hf_headers():
        return "set HF_TOKEN to a token that may read"
    if not os.environ.get("HF_TOKEN"):
        return (
            "set HF_TOKEN to a token that may read or, where the repository is public, "
            "HF_HUB_DISABLE_IMPLICIT_TOKEN to 1: the stored token may have expired"
        )
    return (
        "set HF_TOKEN to a token that may read or, where the repository is public, unset it: "
        "it may have expired"
    )


def misconfigured(error: Exception) -> Misconfigured:
    """Why no client could be built: the variable at fault, named."""
    for name in _PROXIES:
        if (value := os.environ.get(name)) and (reason := _unusable(value)):
            return Misconfigured(
                f"{name}: no proxy that can be used ({reason}); write http://host:port or unset it"
            )
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if value := os.environ.get(name):
            return Misconfigured(
                f"{name}: no certificates can be read from '{value}'; name a file that has some "
                "or unset it"
            )
    return Misconfigured(f"no client for the hub can be set up here ({error})")


def _unusable(value: str) -> str | None:
    """Why a proxy cannot be used; None if it can. Says nothing of its name and password."""
    import ssl

    import httpx2

    address = value if "://" in value else f"http://{value}"
    scheme = address.partition("://")[0]
    try:
        httpx2.HTTPTransport(
            proxy=httpx2.Proxy(address), verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ).close()
    except ImportError:
        return f"{scheme} needs the Python package socksio"
    except (ValueError, httpx2.InvalidURL):
        known = scheme in ("http", "https", "socks5", "socks5h")
        return "its address cannot be read" if known else f"unknown scheme {scheme}"
    return None
