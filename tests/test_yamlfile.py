"""YAML that people write: what is read, what is refused, and that nothing else ever happens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from mlviews.errors import BadInputError, FailedError, MlviewsError
from mlviews.files.yamlfile import Document, key_text, read, texts


@pytest.fixture
def parse(tmp_path: Path) -> Callable[[str | bytes], Document]:
    path = tmp_path / "some.yaml"

    def parse(text: str | bytes) -> Document:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(path)

    return parse


def refused(parse: Callable[[str | bytes], Document], text: str | bytes) -> str:
    with pytest.raises(BadInputError) as caught:
        parse(text)
    assert caught.value.code == "yaml-invalid"
    assert caught.value.hint
    return caught.value.message


def test_every_value_knows_its_line(parse: Callable[[str], Document], tmp_path: Path) -> None:
    document = parse("one: 1\ntwo:\n  - a\n  - {three: b}\n")
    assert document.data == {"one": 1, "two": ["a", {"three": "b"}]}
    assert document.where(("two", 1, "three")) == f"{tmp_path}/some.yaml:4: two[1].three"
    assert document.where(("two", 7, "gone")) == f"{tmp_path}/some.yaml:2: two[7].gone", "the nearest key above"
    assert document.where() == f"{tmp_path}/some.yaml:1"


def test_keys_are_written_as_people_do() -> None:
    assert key_text(("hardware", "gpus", 2)) == "hardware.gpus[2]"
    assert key_text(()) == ""


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: !!python/object/apply:os.system ['touch pwned']\n", 1, "tag"),
        ("a: 1\nb: !custom x\n", 2, "tag"),
        ("a: ! x\n", 1, "tag"),
        ("a: 1\nb: &x [1]\n", 2, "anchors"),
        ("a: 1\nb: *x\n", 2, "anchors"),
        ("a: &a [x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n", 1, "anchors"),
        ("a: 1\nb: 2\na: 3\n", 3, "'a' stands twice (first on line 1)"),
        ("a: 1\n'a': 3\n", 2, "stands twice"),
        ("a: {b: 1, b: 2}\n", 1, "stands twice"),
        ("? [a, b]\n: 1\n", 1, "a key must be one word"),
        ("- a\n", 1, "expected keys and values"),
        ("just text\n", 1, "expected keys and values"),
        ("", 1, "expected keys and values"),
        ("a: 1\n---\nb: 2\n", 2, ""),
        ("a: [1\nb: 2\n", 1, "a bracket is not closed"),
        ("a: 'open\n", 1, "a quote is not closed"),
        ("\ta: 1\n", 1, ""),
        ("a:\n  - numpy\n  -scipy\nb: 1\n", 3, "'-scipy' is neither a key nor an item"),
        ("a:\n  - numpy\n  scipy\nb: 1\n", 3, "'scipy' is neither a key nor an item"),
        ("a:\n  - numpy\n - scipy\n", 3, "'- scipy' is indented unlike"),
        ("a:\n  - numpy\n\t- scipy\n", 3, "a tab"),
        ("a: 1\n  b: 2\n", 2, "'b: 2' cannot stand below"),
        ("a: text: more\n", 1, "second ':'"),
        ("a: 'it's'\n", 1, "goes on after its quotes"),
        ("a:\n  - >=2\n", 2, "means something else to YAML"),
        ("a:\n  - @x\n", 2, "means something else to YAML"),
        ("a: 1\n-https://me:secret@host/ x\nb: 2\n", 2, "'-https://***@host/ x'"),
        ("a: 1\nday: 2026-13-45\n", 2, "is not a value"),
        ("a: \x00\n", 1, ""),
        ("a: \x1b[31m\n", 1, ""),
    ],
)
def test_what_is_refused_names_its_line(parse: Callable[[str], Document], text: str, line: int, problem: str) -> None:
    message = refused(parse, text)
    assert f"some.yaml:{line}: " in message
    assert problem in message


def test_bytes_that_are_not_utf8(parse: Callable[[bytes], Document]) -> None:
    assert "not UTF-8 at byte 3" in refused(parse, b"a: \xff\n")
    assert parse("\ufeffa: ü\n").data == {"a": "ü"}, "a byte order mark is UTF-8 too"


def test_a_bomb_is_refused_before_it_goes_off(parse: Callable[[str], Document]) -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 10))
    began = time.perf_counter()
    refused(parse, f"l0: &l0 [x]\n{levels}")
    refused(parse, "a: " + "[" * 400_000)
    refused(parse, "a: " + "{a: " * 200_000)
    refused(parse, "\n".join(" " * n + "a:" for n in range(1000)))
    assert time.perf_counter() - began < 10


def test_a_file_has_a_largest_size_and_depth(parse: Callable[[str], Document]) -> None:
    assert "larger than" in refused(parse, "a: " + "x" * (1 << 20))
    assert parse("a: " + "[" * 30 + "]" * 30).data
    assert "nested deeper" in refused(parse, "a: " + "[" * 33 + "]" * 33)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.yaml", tmp_path):
        with pytest.raises(FailedError) as caught:
            read(path)
        assert caught.value.code == "file-unreadable"
        assert str(path) in caught.value.message


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(data=st.dictionaries(st.text(), plain, max_size=5))
@example(data={"a": -0.0})
def test_what_a_writer_wrote_is_read_back(parse: Callable[[str], Document], data: dict[str, Any]) -> None:
    assert same(parse(yaml.safe_dump(data, allow_unicode=False)).data, data)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return math.isclose(one, other)
    return bool(one == other)


SYNTAX = st.text(alphabet=st.sampled_from("ab:-?!&*|>'\"%@`#,[]{} \n\t\r\\0x_.~=<"), max_size=60)


@given(text=st.one_of(st.text(max_size=80), SYNTAX, SYNTAX.map(lambda text: f"a: {text}\n")))
def test_any_text_is_read_or_refused(parse: Callable[[bytes], Document], text: str) -> None:
    read_or_refused(parse, text.encode("utf-8", "surrogatepass"))


@given(raw=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(parse: Callable[[bytes], Document], raw: bytes) -> None:
    read_or_refused(parse, raw)


def read_or_refused(parse: Callable[[bytes], Document], raw: bytes) -> None:
    try:
        data = parse(raw).data
    except MlviewsError as error:
        code = error.code
    else:
        assert isinstance(data, dict)
        return
    assert code == "yaml-invalid"


# What programs wrote

LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # libyaml and PyYAML's own parser differ in small things


@given(data=st.dictionaries(st.text(), plain, max_size=5), flow=st.booleans())
def test_texts_are_those_of_pyyaml(data: dict[str, Any], flow: bool) -> None:
    raw = yaml.safe_dump(data, default_flow_style=flow).encode()
    assert texts(raw) == yaml.load(raw, Loader=LOADER)


@given(text=st.one_of(st.text(max_size=80), SYNTAX, SYNTAX.map(lambda text: f"a: {text}\n")))
def test_any_text_gives_pyyamls_texts_or_is_refused(text: str) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    try:
        found = texts(raw)
    except (ValueError, yaml.YAMLError):
        return
    assert found == yaml.load(raw, Loader=LOADER)


@pytest.mark.parametrize(
    "text",
    [
        "", "a: 1\n---\nb: 2\n", "a: &x 1\n", "a: *x\n", "a: !t 1\n", "a: 1\na: 2\n", "? [a]\n: 1\n",
        "[" * 34 + "]" * 34, "[" * 100_000, "{a: " * 100_000, "- " * 100_000,
    ],
)  # fmt: skip
def test_texts_that_are_not_plain(text: str) -> None:
    with pytest.raises((ValueError, yaml.YAMLError)):
        texts(text.encode())
