"""Templates that cannot put out a value that was not quoted for their language.

A template holds layout. Each value passes a filter: the one named after the template's language gives a literal of that
language, quotes included, ``words`` several of them with spaces between, ``variable`` and ``variables`` bare names of
environment variables, ``bare`` a word that needs no quotes, such as an image's name, ``line`` prose in a comment or a
help text, ``exec`` a JSON array, ``block`` a file within a fence of Markdown. Anything else that reaches the output
raises.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from functools import cache
from importlib.util import MAGIC_NUMBER
from typing import TYPE_CHECKING, Any

import jinja2

from mlviews.files import writing
from mlviews.files.kept import Kept, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jinja2.bccache import Bucket


class _Literal(str):
    """Text that is a literal of the template's language; any change to it gives a plain `str` again."""

    __slots__ = ()


def _lua(text: str) -> str:
    """Quote for Lua 5.1 and later: https://www.lua.org/manual/5.1/manual.html#2.1."""
    return '"' + "".join(_LUA.get(character, character) for character in text) + '"'


def _tcl(text: str) -> str:
    """Quote for Tcl 8.5 and later, rules 4 and 7 to 9: https://www.tcl-lang.org/man/tcl8.6/TclCmd/Tcl.htm."""
    return '"' + "".join(_TCL.get(character, character) for character in text) + '"'


def _sh(text: str) -> str:
    """Quote for POSIX shells, and for zsh, where a bare ``=`` may stand for a program's path ("= expansion")."""
    quoted = shlex.quote(text)
    return f"'{text}'" if quoted == text and "=" in text else quoted


def _csh(text: str) -> str:
    """Quote for csh and tcsh, whose history is substituted even within single quotes and whose lines end there.

    See "Lexical structure" and "History substitution" in https://man.archlinux.org/man/tcsh.1.
    """
    return "'" + "".join(_CSH.get(character, character) for character in text) + "'"


def _fish(text: str) -> str:
    """Quote for fish: https://fishshell.com/docs/current/language.html#quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _docker(text: str) -> str:
    """Quote for LABEL and ENV, in which no line can end: https://docs.docker.com/reference/dockerfile/.

    Backslashes stand outside the quotes: hadolint takes a quote behind any of them for one that was escaped.
    """
    _refuse_controls(text)
    return '"' + "".join(_DOCKER.get(character, character) for character in text) + '"'


def _definition(text: str) -> str:
    """Quote for the shell in a section of an Apptainer definition, which first fills in every ``{{ name }}`` there."""
    _refuse_controls(text)
    return shlex.quote(text).replace("{{", "{''{") if "{{" in text else shlex.quote(text)


def _markdown(text: str) -> str:
    """Escape for prose in Markdown: https://spec.commonmark.org/0.31.2/#backslash-escapes."""
    _refuse_controls(text)
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def _refuse_controls(text: str) -> None:
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError(f"{text!r} holds control characters, which this language cannot carry")


# A control character as three octal (Tcl) or decimal (Lua) digits, so that no digit after it is taken for a fourth.
_CONTROLS = [*range(0x20), 0x7F]
_LUA = {chr(code): f"\\{code:03d}" for code in _CONTROLS} | {"\n": "\\n", "\\": "\\\\", '"': '\\"'}
_TCL = {chr(code): f"\\{code:03o}" for code in _CONTROLS} | {"\n": "\\n"} | {mark: f"\\{mark}" for mark in '\\"$[]{}'}
_DOCKER = {"\\": '"\\\\"', '"': '\\"', "$": "\\$"}
_CSH = {"'": "'\\''", "!": "\\!", "\n": "\\\n"}

_LANGUAGES: dict[str, Callable[[str], str]] = {
    "lua": _lua,
    "tcl": _tcl,
    "sh": _sh,
    "csh": _csh,
    "fish": _fish,
    "docker": _docker,
    "definition": _definition,
    "markdown": _markdown,
}


def render(template: str, language: str, values: dict[str, Any]) -> str:
    """Return ``templates/<template>.j2`` filled with ``values``.

    Args:
        template: the file's name without ``.j2``.
        language: ``lua``, ``tcl``, ``sh``, ``csh``, ``fish``, ``docker``, ``definition`` (Apptainer's) or ``markdown``:
            what the file is written in, and the name of the filter for its values.
        values: what the template names; one that it names in vain is an error.

    Raises:
        TypeError: the template puts out a value that passed no filter, or one that is no text.
        ValueError: the name of a variable is none, or a text cannot be written in the language at all;
            `mlviews.release.Activation` holds no such names and texts.
        jinja2.UndefinedError: the template names a value that ``values`` does not hold.
    """
    return _environment(language).get_template(f"{template}.j2").render(values)


def quote(language: str, text: str) -> str:
    """Return a literal of a language, quotes included; the languages are those of `render`.

    Raises:
        ValueError: the text cannot be written in it.
    """
    return _LANGUAGES[language](text)


@cache
def _environment(language: str) -> jinja2.Environment:
    quote = _LANGUAGES[language]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(writing.folder("templates")),
        autoescape=False,  # noqa: S701  (HTML's rules are of no use here: _only_literals lets nothing else through)
        undefined=jinja2.StrictUndefined,
        finalize=_only_literals,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        bytecode_cache=_Compiled(language),
    )
    environment.filters[language] = lambda value: _Literal(quote(_text(value)))
    environment.filters["words"] = lambda values: _Literal(" ".join(quote(_text(value)) for value in values))
    environment.filters["variable"] = _variable
    environment.filters["variables"] = _variables
    environment.filters["bare"] = _bare
    environment.filters["line"] = _line
    environment.filters["block"] = _block
    environment.filters["exec"] = lambda values: _Literal(json.dumps([_text(value) for value in values]))
    return environment


class _Compiled(jinja2.BytecodeCache):
    """What templates are compiled to, kept: to compile those of a build took a twelfth of its processor time.

    They are programs. So they are kept where nobody but the user can have written (`mlviews.files.kept`), for the
    template's bytes, Jinja, Python and the code of this room, whose filters Jinja applies to constants when it
    compiles.
    """

    def __init__(self, language: str) -> None:
        self._language = language

    def load_bytecode(self, bucket: Bucket) -> None:
        if found := self._place(bucket).recall(base64.b64decode):
            bucket.bytecode_from_string(found)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._place(bucket).keep(base64.b64encode(bucket.bytecode_to_string()).decode())

    def _place(self, bucket: Bucket) -> Kept:
        parts = [bucket.checksum.encode(), jinja2.__version__.encode(), MAGIC_NUMBER]
        return Kept("templates", f"{self._language}-{bucket.key}", state_of(parts, rooms=["render"]))


def _variable(name: object) -> _Literal:
    text = _text(name)
    if not (text.isascii() and text.isidentifier()):
        raise ValueError(f"{text!r} cannot be a variable's name")
    return _Literal(text)


def _bare(word: object) -> _Literal:
    text = _text(word)
    if not re.fullmatch(r"[A-Za-z0-9._/:@+,=<>~-]+", text):
        raise ValueError(f"{text!r} cannot stand without quotes")
    return _Literal(text)


def _line(prose: object) -> _Literal:
    """Give prose that its reader sees as it is, but for ``{{``: Apptainer would fill in what follows."""
    text = _text(prose)
    _refuse_controls(text)
    return _Literal(text.replace("{{", "{ {"))


def _block(lines: object) -> _Literal:
    """Give a file's text that stands between two fences, which must not end before it."""
    text = _text(lines)
    if "```" in text or re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text):
        raise ValueError("the text holds a fence or control characters, which no block of Markdown can carry")
    return _Literal(text)


def _variables(names: Iterable[object]) -> _Literal:
    return _Literal(" ".join(map(_variable, names)))


def _text(value: object) -> str:
    if isinstance(value, str) and not isinstance(value, _Literal):
        return value
    _refuse_undefined(value)
    raise TypeError(f"only plain text can be quoted, and only once: {value!r}")


def _only_literals(value: object) -> _Literal:
    if isinstance(value, _Literal):
        return value
    _refuse_undefined(value)
    raise TypeError(f"a template put out {value!r} without quoting it")


def _refuse_undefined(value: object) -> None:
    if isinstance(value, jinja2.Undefined):
        str(value)  # StrictUndefined raises, and says what is missing
