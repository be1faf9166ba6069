"""Where a channel is read from: its URL, a folder, or the servers that stand for it; and the client that asks them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rattler import Channel
from rattler.exceptions import AuthenticationStorageError, InvalidChannelError
from rattler.networking import Client
from rattler.networking.middleware import (
    AddHeadersMiddleware,
    AuthenticationMiddleware,
    GCSMiddleware,
    MirrorMiddleware,
    OciMiddleware,
    RetryMiddleware,
    S3Middleware,
)

from mlviews.credentials import Server, open_server
from mlviews.errors import BadInputError

UNKNOWN_CERTIFICATE = "invalid peer certificate"
"""What rattler says of a server whose certificate nobody here vouches for."""
CERTIFICATE_HINT = "Where a site has its own certificate authority, SSL_CERT_FILE must name its certificate's file."
CLOCK_HINT = "Look at this computer's clock: type `date`. If it is right, tell the people who run the server."
OUT_OF_DATE = r"(?i)certificate.*(expired|not yet valid|not valid yet|NotValidYet)"
"""What rattler, pip and Python say of a certificate that was valid once, or will be: mostly, a clock is wrong."""
PORTAL_HINT = "A proxy or the login page of a network may have answered: open the URL in a browser."
"""What to do where something came that is none of a channel's files."""


def hint_of_clock(why: str, otherwise: str) -> str:
    """Return the hint for a server that cannot be asked: another one, unless a certificate is out of date."""
    return CLOCK_HINT if re.search(OUT_OF_DATE, why) else otherwise


def channel_url(channel: str) -> str:
    """Return the base URL of a channel that is given by name, URL or folder.

    Raises:
        BadInputError: it is none of these.
    """
    try:
        return Channel(channel).base_url
    except (InvalidChannelError, ValueError) as error:
        raise BadInputError(
            "channel-invalid", f"{channel!r} is not a channel: {error}", "Give a name or a URL."
        ) from error


def channel_folder(location: str) -> Path | None:
    """Return the folder that a channel or mirror lies in, or None if it lies on a server."""
    if location.startswith("file://"):
        return Path(unquote(urlsplit(location).path))
    path = Path(location).expanduser()
    return path.absolute() if path.is_absolute() or location.startswith((".", "~")) or path.is_dir() else None


def mirror_servers(mirrors: Mapping[str, str]) -> dict[str, Server]:
    """Return those mirrors that are servers, by the URL of their channel; ``mirrors`` are channel -> folder or URL."""
    return {
        channel_url(channel).rstrip("/"): open_server(location)
        for channel, location in mirrors.items()
        if channel_folder(location) is None
    }


def http_client(servers: Mapping[str, Server]) -> Client:
    """Return a client that retries, knows the user's credentials, and goes to mirrors (channel URL -> mirror).

    Raises:
        BadInputError: RATTLER_AUTH_FILE names credentials, and the user has no home folder.
    """

    def headers(host: str, path: str) -> dict[str, str] | None:
        for server in servers.values():
            parts = urlsplit(server.url)
            if parts.hostname == host and f"{path}/".startswith(f"{parts.path}/"):
                return server.headers
        return None

    there = {url: [server.url] for url, server in servers.items()}
    mirrors = (MirrorMiddleware(there), AddHeadersMiddleware(headers)) if servers else ()
    credentials = (AuthenticationMiddleware(), OciMiddleware(), GCSMiddleware(), S3Middleware())
    try:
        return Client([*mirrors, RetryMiddleware(), *credentials])
    except AuthenticationStorageError as error:  # a user without a home folder, as in some containers, has stored none
        if "RATTLER_AUTH_FILE" in os.environ:
            raise BadInputError(
                "user-unknown", "RATTLER_AUTH_FILE is read only for a user with a home folder", "Set HOME."
            ) from error
        return Client([*mirrors, RetryMiddleware()])
