"""Whether that from which a build fetches answers: each channel where the site reads it, and pip's index.

One request each, side by side and without a second try: ``mlviews doctor`` is to be quick.
"""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from mlviews.conda.servers import CERTIFICATE_HINT, PORTAL_HINT, channel_folder, channel_url, hint_of_clock
from mlviews.credentials import Server, hide, open_server
from mlviews.doctor import Finding, may_build

if TYPE_CHECKING:
    from mlviews.site.profile import Site

SECONDS = 5.0
"""How long an answer is waited for."""

_FILE = "noarch/repodata.json"  # every channel has it
_OFFLINE = (
    "Name a mirror that this host reaches: --mirror CHANNEL=URL_OR_FOLDER, or `mirrors` in the site's file. "
    "Without a network: `mlviews pack VIEW --offline FOLDER` on a host that has one, then that FOLDER as the mirror."
)
_CLOSED = "doctor asks without your password or token; a build sends what ~/.netrc or RATTLER_AUTH_FILE holds for it."
_REFUSED = "Correct them where the URL stands: --mirror CHANNEL=URL, MLVIEWS_MIRROR, or the site's file."
_FAILED = re.compile(r"^Could not fetch URL (\S+): (.*) - skipping$", re.MULTILINE)


def start_asking(site: Site, *, seconds: float = SECONDS) -> Callable[[], list[Finding]]:
    """Ask all at once, and return what gives the answers: it waits for them until the time is over.

    What does not answer is a problem for those who may build; others need it for nothing.

    Args:
        seconds: from now on.
    """
    wheels = site.packages == "wheels"  # such a site writes its one channel itself, when it locks
    places = {} if wheels else {channel: site.mirrors.get(channel, channel) for channel in site.channels}
    asks: dict[str, Callable[[], Finding]] = {
        channel: partial(_channel, channel, place, seconds) for channel, place in places.items()
    }
    if wheels:
        asks["pip"] = partial(_index, seconds)
    found: dict[str, Finding] = {}
    until = time.monotonic() + seconds

    def ask(what: str) -> None:
        found[what] = asks[what]()

    # Nobody waits for these at the end, as for a pool's: a name server may take minutes to say nothing.
    threads = {what: Thread(target=ask, args=(what,), daemon=True) for what in asks}
    for thread in threads.values():
        thread.start()

    def answers() -> list[Finding]:
        for thread in threads.values():
            thread.join(max(0.0, until - time.monotonic()))
        told = [found.get(what) or _problem(what, places.get(what, "index"), _silent(seconds)) for what in asks]
        builds = may_build(site.root)
        return [line if builds or line.status != "problem" else replace(line, status="note") for line in told]

    return answers


class _NoAnswerError(Exception):
    """Why there is none, and what to do."""

    def __init__(self, why: str, advice: str = _OFFLINE) -> None:
        super().__init__(why)
        self.advice = advice


def _problem(what: str, place: str, why: str, advice: str = _OFFLINE) -> Finding:
    if what == "pip":
        advice = "pip's own settings name the index (`pip config list`); PIP_FIND_LINKS names a folder of wheels."
    found = f"{_named(what, place)}: {why}"
    return Finding("index" if what == "pip" else "channel", "problem", found, hint_of_clock(why, advice))


def _silent(seconds: float) -> str:
    return f"no answer in {seconds:g} second{'' if seconds == 1 else 's'}"


def _named(what: str, place: str) -> str:
    return hide(what if what == place else f"{what} at {place}")


def _channel(channel: str, place: str, seconds: float) -> Finding:
    """Look for the one file that every channel has: in a folder, or on a server."""
    named, folder = _named(channel, place), channel_folder(place)
    try:
        if folder:
            _look(folder)
            return Finding("channel", "ok", named)
        server = open_server(place if "://" in place else channel_url(place))
        if urlsplit(server.url).scheme not in {"http", "https"}:
            return Finding("channel", "note", f"{named}: not asked, since it is no web server")
        status = _ask(server, seconds)
        if server.headers and status in {401, 403}:
            raise _NoAnswerError(f"it refuses the user and password of its URL (status {status})", _REFUSED)
        if status in {401, 403, 407}:
            return Finding("channel", "note", f"{named} answers, and wants to know who asks", _CLOSED)
    except _NoAnswerError as error:
        return _problem(channel, place, str(error), error.advice)
    return Finding("channel", "ok", f"{named} answers")


def _look(folder: Path) -> None:
    if not any((folder / f"{_FILE}{ending}").is_file() for ending in ("", ".zst")):
        raise _NoAnswerError(f"there is no {_FILE} in it")


def _ask(server: Server, seconds: float) -> int:
    """Return the status by which a server answers, if that is no fault.

    Raises:
        _NoAnswerError: it does not answer, or not as a channel.
    """
    handlers = [_Stay()] if server.headers else []  # a password is for that server alone
    try:
        request = Request(f"{server.url}/{_FILE}", headers=server.headers, method="HEAD")  # noqa: S310  (checked: http)
        with build_opener(*handlers).open(request, timeout=seconds) as answer:
            status, page = int(answer.status), answer.headers.get_content_type() == "text/html"
    except HTTPError as error:
        error.close()
        status, page = error.code, False
    except (OSError, HTTPException, ValueError) as error:
        why = error.reason if isinstance(error, URLError) else error
        if isinstance(why, TimeoutError):
            raise _NoAnswerError(_silent(seconds)) from None
        advice = CERTIFICATE_HINT if isinstance(why, ssl.SSLCertVerificationError) else _OFFLINE
        raise _NoAnswerError(str(getattr(why, "strerror", None) or why), advice) from None
    if page:
        raise _NoAnswerError("a page came, and no file of a channel", PORTAL_HINT)
    if status in {404, 410} or status >= 500:  # noqa: PLR2004  (HTTP: a server's fault)
        raise _NoAnswerError(f"it answers with status {status} for {_FILE}")
    return status


class _Stay(HTTPRedirectHandler):
    """Follows no redirect."""

    def redirect_request(self, *_: object) -> None:
        return None


def _index(seconds: float) -> Finding:
    """Have pip ask its index for pip itself: it alone knows its indexes, proxies and passwords."""
    if os.environ.get("PIP_NO_INDEX", "0").lower() not in {"", "0", "false", "no", "off"}:
        return Finding("index", "note", "not asked: PIP_NO_INDEX is set")
    from mlviews.wheels.pip import environment  # noqa: PLC0415  (only sites of wheels need it)

    command = [sys.executable, "-E", "-m", "pip", "index", "versions", "pip", "-vv", "--no-input", "--retries=0"]
    command += ["--disable-pip-version-check", f"--timeout={seconds:g}"]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=seconds,
            cwd=Path("/"), env=environment(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return _problem("pip", "index", _silent(seconds))
    if failed := _FAILED.search(asked.stdout + asked.stderr):
        return _problem("pip", failed[1].removesuffix("/pip/"), failed[2])
    if asked.returncode:
        return _problem("pip", "index", "it has no pip" if asked.stdout else "this Python has no pip")
    return Finding("index", "ok", "pip's index answers")
