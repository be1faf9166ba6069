"""Passwords and tokens in URLs: found, taken out, hidden in every text.

A channel's URL goes into locks, and from there to CVMFS and into images: it may hold none. A mirror's and an index's
may; they are sent, and shown and written nowhere.
"""

from __future__ import annotations

import base64
import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

HIDDEN = "***"
"""What stands in a text for a password or a token."""

# All before the last @ of what may be an authority (RFC 3986, 3.2.1), also where an @ in a password is not escaped.
_USER = re.compile(r"(?<=://)[^\s/?#]*@")
# As conda puts tokens into paths: `conda.common.url.split_anaconda_token`. A folder may be called `t`.
_TOKEN = re.compile(r"(?<!file)(://[^\s/]+(?:/[^\s/]+)*?/t/)[^\s/?#\"'<>]+")


class Server(NamedTuple):
    """A server's address, and what proves to it who asks.

    Attributes:
        url: without user, password and the last slash; a token in its path stays.
        headers: what is sent along.
    """

    url: str
    headers: dict[str, str]


def hide(text: str) -> str:
    """Return a text with the users, passwords and tokens of its URLs hidden."""
    if "://" not in text:
        return text
    return _TOKEN.sub(rf"\1{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))


def refuse(text: str) -> str:
    """Return a text whose URLs hold no user, password or token.

    Raises:
        ValueError: it holds one.
    """
    if hide(text) != text:
        raise ValueError("holds a user, a password or a token; they belong in ~/.netrc or RATTLER_AUTH_FILE")
    return text


def open_server(url: str) -> Server:
    """Take user and password out of a URL: https://www.rfc-editor.org/rfc/rfc7617."""
    parts = urlsplit(url.rstrip("/"))
    user, at, host = parts.netloc.rpartition("@")
    clean = urlunsplit(parts._replace(netloc=host))
    proof = base64.b64encode(unquote(user if ":" in user else f"{user}:").encode()).decode()
    return Server(clean, {"Authorization": f"Basic {proof}"} if at else {})
