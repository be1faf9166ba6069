"""YAML that people write: plain data only, and every value remembers its line.

Tags, anchors and aliases are refused: they buy nothing in a recipe, and they are how YAML runs code or grows without
bound. A key given twice is refused too; YAML's own readers keep the last one and say nothing.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlviews.credentials import hide
from mlviews.errors import BadInputError, FailedError

KeyPath = tuple["str | int", ...]

_MAX_BYTES = 1 << 20
_MAX_DEPTH = 32
_STEPS = {
    yaml.SequenceStartEvent: 1, yaml.MappingStartEvent: 1, yaml.SequenceEndEvent: -1, yaml.MappingEndEvent: -1,
    yaml.ScalarEvent: 0, yaml.AliasEvent: 0,
}  # fmt: skip
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file.

    Attributes:
        data: dicts, lists, strings, numbers, booleans and None.
        lines: 1-based line of every key and list item, by its path from the top.
    """

    path: Path
    data: Any
    lines: dict[KeyPath, int]

    def where(self, path: KeyPath = ()) -> str:
        """Return ``file:line: key`` for ``path``, or for the nearest key above it that the file has."""
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        line = self.lines.get(known, 1)
        return f"{self.path}:{line}: {key_text(path)}" if path else f"{self.path}:{line}"


def key_text(path: KeyPath) -> str:
    """Write a key's path as people do: ``hardware.gpus[2]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read(path: Path) -> Document:
    """Read one YAML file.

    Raises:
        BadInputError: it is no YAML, no mapping, too large or too deep, or holds tags, anchors, aliases or a key twice.
    """
    try:
        return parse(path, path.read_bytes())
    except OSError as error:
        raise FailedError(
            "file-unreadable", f"{path}: {error.strerror}", "Check the path and its permissions."
        ) from error


def parse(path: Path, raw: bytes) -> Document:
    """Return what a YAML file's bytes say; errors are those of `read`, for what it holds."""
    if len(raw) > _MAX_BYTES:
        raise _bad(path, 1, f"larger than {_MAX_BYTES} bytes")
    try:
        text = raw.decode()
        if found := _unsafe(text):
            raise _bad(path, *found)
        node = yaml.compose(text, Loader=_Loader)
    except UnicodeDecodeError as error:
        raise _bad(path, 1, f"not UTF-8 at byte {error.start}") from error
    except yaml.MarkedYAMLError as error:
        raise _bad(path, *_explained(text, error)) from error
    except yaml.YAMLError as error:
        raise _bad(path, 1, " ".join(str(error).split())) from error
    if not isinstance(node, yaml.MappingNode):
        raise _bad(path, 1, "expected keys and values")
    lines: dict[KeyPath, int] = {}
    return Document(path, _plain(path, node, (), lines), lines)


_PLAIN = "Recipes, layers and sites are plain YAML."


def _bad(path: Path, line: int, problem: str, hint: str = _PLAIN) -> BadInputError:
    return BadInputError("yaml-invalid", f"{path}:{line}: {problem}", hint)


_LONGEST_SHOWN = 60
_QUOTE = "Write the whole text in quotes."
_ALIKE = "The items of one list, and the keys of one group, are indented alike."
_WORDS = "A key is written 'key: value'; an item of a list '- item', with a space after the dash."


def _explained(text: str, error: yaml.MarkedYAMLError) -> tuple[int, str, str]:
    """Return the line at fault, what is wrong there, and what to do.

    YAML's own words are about its grammar, and its line is where the grammar broke: often the one after the fault.
    """
    problem = error.problem or "not YAML"
    lines = text.splitlines()
    at, column = (error.problem_mark.line, error.problem_mark.column) if error.problem_mark else (0, 0)
    began = error.context_mark.line if error.context_mark else at
    here, start = _shown(lines, at), _shown(lines, began)
    odd = f"{here} holds a character that means something else to YAML"
    before = lines[at][:column].strip() if at < len(lines) else ""
    rules = (
        ("expected ':'", began, f"{start} is neither a key nor an item", _WORDS),
        ("tab", at, "a tab stands in the indentation", "Indent with spaces."),
        ("end of stream", began, f"a quote is not closed: {start}", _QUOTE),
        ("expected ','", began, f"a bracket is not closed, or a comma is missing: {start}", "Such as: [numpy, scipy]"),
        ("cannot start", at, odd, _QUOTE),
        ("comment or line break", at, odd, _QUOTE),
        ("escape", at, odd, _QUOTE),
        ("expected", at, f"{here} goes on after its quotes", _QUOTE)
        if before
        else ("expected", at, f"{here} is indented unlike what stands above it", _ALIKE),
        ("mapping values", at, f"{here} holds a second ':'", _QUOTE)
        if ":" in before
        else ("mapping values", at, f"{here} cannot stand below what is above it", f"{_ALIKE} {_WORDS}"),
    )
    found = ((line + 1, words, hint) for needle, line, words, hint in rules if needle in problem)
    return next(found, (at + 1, problem, _PLAIN))


def _shown(lines: list[str], number: int) -> str:
    line = hide(lines[number].strip()) if number < len(lines) else ""
    return repr(line if len(line) <= _LONGEST_SHOWN else f"{line[:_LONGEST_SHOWN]}...")


def _unsafe(text: str) -> tuple[int, str] | None:
    """Return the line and the problem of the first thing that plain YAML must not hold, or None.

    It walks the events, which is iterative: libyaml crashes on a deep nest, and a few aliases can stand for gigabytes.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problem = "anchors and aliases (& and *) are not allowed; text that begins with one is written in quotes"
        elif tag := getattr(event, "tag", None):
            problem = f"the tag {tag!r} is not allowed"
        elif depth > _MAX_DEPTH:
            problem = f"nested deeper than {_MAX_DEPTH} levels"
        else:
            depth += _STEPS.get(type(event), 0)
            continue
        return event.start_mark.line + 1 if event.start_mark else 1, problem
    return None


def texts(raw: bytes) -> Any:
    """Return YAML that a program wrote: dicts and lists, with every scalar as its text.

    It takes a third of the time of PyYAML's own loader, which matters to a command that reads every lock. It works on
    events alone, so that no nest and no alias can hurt.

    Raises:
        yaml.YAMLError: it is no YAML.
        ValueError: it is not plain, holds a key twice, or is not one document.
    """
    documents: list[Any] = []
    stack: list[tuple[Any, Any]] = []
    into: Any = documents
    key: Any = None
    event: Any
    next_event: Any = _Loader(raw).get_event  # `yaml.parse` looks at each event twice
    while not isinstance(event := next_event(), yaml.StreamEndEvent):
        step = _STEPS.get(type(event))
        if step is None:
            continue  # the begin or the end of a document or of the stream
        if step < 0:
            into, key = stack.pop()
            continue
        if event.anchor or event.tag or len(stack) > _MAX_DEPTH:
            raise ValueError("anchors, aliases, tags and deep nests are not allowed")
        value: Any = [] if isinstance(event, yaml.SequenceStartEvent) else {} if step else event.value
        if isinstance(into, list):
            into.append(value)
        elif key is not None:
            into[key], key = value, None
        elif step or value in into:
            raise ValueError("a key stands twice or is not plain text")
        else:
            key = value
            continue
        if step:
            stack.append((into, key))
            into, key = value, None
    if len(documents) != 1:
        raise ValueError("expected one document")
    return documents[0]


def _plain(path: Path, node: yaml.Node, at: KeyPath, lines: dict[KeyPath, int]) -> Any:
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(path, item, (*at, index), lines) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value in node.value:
            key = _key(path, key_node)
            child = (*at, key)
            line = key_node.start_mark.line + 1
            if key in mapping:
                raise _bad(path, line, f"the key {key!r} stands twice (first on line {lines[child]})")
            lines[child] = line
            mapping[key] = _plain(path, value, child, lines)
        return mapping
    return _scalar(path, node)


def _key(path: Path, node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    raise _bad(path, node.start_mark.line + 1, "a key must be one word")


def _scalar(path: Path, node: yaml.Node) -> Hashable:
    try:
        value: Hashable = yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise _bad(path, node.start_mark.line + 1, f"{node.value!r} is not a value: {error}") from error
    return value
