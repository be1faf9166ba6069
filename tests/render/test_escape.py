"""No value leaves a template unless it was quoted for the template's language."""

from __future__ import annotations

import jinja2
import pytest

from mlviews.files import writing
from mlviews.render import escape


@pytest.fixture
def render(monkeypatch, tmp_path):
    """Return a function that renders the text of a template."""
    monkeypatch.setattr(writing, "folder", lambda name: tmp_path / name)
    escape._environment.cache_clear()
    (tmp_path / "templates").mkdir()

    def fill(text, language="sh", **values):
        (tmp_path / "templates/example.j2").write_text(text)
        return escape.render("example", language, values)

    yield fill
    escape._environment.cache_clear()


@pytest.mark.parametrize(
    "template",
    [
        "{{ value }}",
        "{{ 'constant' }}",
        "{{ 7 }}",
        "{{ value|upper }}",
        "{{ value|safe }}",
        "{{ value|sh ~ value }}",
        "{{ value|sh|lower }}",
        "{{ value|sh|sh }}",
        "{{ [value, value]|join(' ') }}",
        "{{ ['a'|sh, value]|join(' ') }}",
        "{{ number|sh }}",
        "{{ none|sh }}",
        "{{ words|sh }}",
        "{{ numbers|words }}",
    ],
)
def test_a_value_that_was_not_quoted_raises(template, render):
    with pytest.raises(TypeError):
        render(template, value="a b", number=7, none=None, words=["a"], numbers=[1])


@pytest.mark.parametrize(
    "template", ["{{ missing }}", "{{ missing|sh }}", "{{ missing|words }}", "{{ value.missing|sh }}"]
)
def test_a_missing_value_raises(template, render):
    with pytest.raises(jinja2.UndefinedError):
        render(template, value={})


def test_a_filter_of_another_language_is_not_there(render):
    with pytest.raises(jinja2.TemplateAssertionError):
        render("{{ value|lua }}", language="tcl", value="x")


@pytest.mark.parametrize("name", ["", "1A", "A B", "A=B", "A;touch", "A\n", "\u00c4", "A-B"])
def test_a_name_that_no_variable_can_have_raises(name, render):
    for template in ("{{ name|variable }}", "{{ [name]|variables }}"):
        with pytest.raises(ValueError, match="variable's name"):
            render(template, name=name)


def test_what_was_compiled_is_kept_for_the_same_template_and_language_alone(render, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    compiled = []
    compiling = jinja2.Environment.compile

    def counting(self, source, name=None, *arguments, **keys):
        compiled.append(name)
        return compiling(self, source, name, *arguments, **keys)

    def again(text, **keys):
        escape._environment.cache_clear()  # as in another process
        compiled.clear()
        return render(text, **keys), len(compiled)

    monkeypatch.setattr(jinja2.Environment, "compile", counting)
    assert again("{{ 'a b'|sh }}") == ("'a b'", 1)
    assert again("{{ 'a b'|sh }}") == ("'a b'", 0)
    assert again("{{ 'a c'|sh }}") == ("'a c'", 1)
    assert again("{{ ['a c']|words }}") == ("'a c'", 1)
    assert again("{{ ['a c']|words }}", language="lua") == ('"a c"', 1)
    assert again("{{ ['a c']|words }}") == ("'a c'", 0)
    for path in (tmp_path / "cache/mlviews/templates").iterdir():
        path.chmod(0o666)  # anybody may have written it
    assert again("{{ ['a c']|words }}") == ("'a c'", 1)


def test_quoted_values_and_layout_come_out(render):
    text = "{% for name in names %}\nset {{ name|variable }} {{ value|tcl }} {{ names|words }}\n{% endfor %}\n"
    assert render(text, language="tcl", names=["A", "B_1"], value='$x["') == (
        'set A "\\$x\\[\\"" "A" "B_1"\nset B_1 "\\$x\\[\\"" "A" "B_1"\n'
    )


@pytest.mark.parametrize("text", ["a\n```\nb", "a\x1b[2J", "a\0"])
def test_a_block_of_markdown_ends_where_it_should(render, text):
    assert render("```\n{{ value|block }}\n```\n", "markdown", value="a\n``b`` #\n") == "```\na\n``b`` #\n\n```\n"
    with pytest.raises(ValueError, match="fence"):
        render("{{ value|block }}", "markdown", value=text)
