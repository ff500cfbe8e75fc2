"""What an answer of the hub means that is no content: a typed error, or how long to wait."""

from __future__ import annotations

import re

import httpx2
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import RateLimitInfo, hf_raise_for_status, parse_ratelimit_headers

from trajectory.hub import environment, errors


def raise_for_status(response: httpx2.Response) -> None:
    """Raise what an answer that refuses means; what stands in its body is not read."""
    if not response.is_success:
        response.close()
        hf_raise_for_status(response)
        raise ValueError(f"status {response.status_code} without a page to go to")


def window(response: httpx2.Response) -> RateLimitInfo | None:
    """What an answer says of its host's limits; None where it says nothing, or nothing likely."""
    text = f"{response.headers.get('ratelimit')} {response.headers.get('ratelimit-policy')}"
    if re.search(r"[0-9]{10}", text):
        return None
    return parse_ratelimit_headers(response.headers)


def asked_wait(error: Exception) -> float | None:
    """Seconds that a busy hub asks to wait; None where it does not say."""
    response = getattr(error, "response", None)
    if response is None or response.status_code not in (429, 503):
        return None
    info = window(response)
    if info is not None and info.remaining == 0:
        return info.reset_in_seconds + 0.5
    after = response.headers.get("Retry-After", "")
    return float(after) if re.fullmatch(r"[0-9]+", after) else None


def explain(error: Exception, where: str) -> errors.CheckpointError | None:
    """The typed error behind an exception of ``huggingface_hub``; None for a mistake of our own."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    for kind, message in (
        _by_type(error),
        errors.by_status(status, environment.token_advice()),
    ):
        if kind is not None:
            return kind(f"{where}: {message}")
    if isinstance(error, httpx2.TransportError | ConnectionError):
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        return errors.Unreachable(f"{where}: no working connection to the hub ({reason})")
    if isinstance(error, HfHubHTTPError | httpx2.HTTPError):
        return errors.CheckpointError(f"{where}: the hub answers {status or type(error).__name__}")
    if isinstance(error, ValueError | KeyError):  # an answer that is not the protocol's
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return errors.HubBroken(f"{where}: the hub's answer cannot be read ({reason})")
    return None


_KINDS: tuple[tuple[type[Exception], type[errors.CheckpointError], str], ...] = (
    (OfflineModeIsEnabled, errors.Offline, "HF_HUB_OFFLINE forbids to ask the hub"),
    (
        GatedRepoError,
        errors.Gated,
        "gated; accept its conditions on the hub and set HF_TOKEN to a token of that account",
    ),
    (RevisionNotFoundError, errors.UnknownRevision, "the hub no longer has it; list it again"),
    (EntryNotFoundError, errors.UnknownFile, "a listed file is missing on the hub"),
    (
        RepositoryNotFoundError,
        errors.UnknownRepository,
        "the hub has no such repository, or it is private and HF_TOKEN does not open it",
    ),
    (HFValidationError, errors.UnknownRepository, "no name that a repository can have"),
    (httpx2.TimeoutException, errors.Unreachable, "the hub does not answer in time"),
)


def _by_type(error: Exception) -> tuple[type[errors.CheckpointError] | None, str]:
    return next(
        ((kind, text) for type_, kind, text in _KINDS if isinstance(error, type_)), (None, "")
    )
