"""Which licences a site refuses: expressions are read, texts that are none are told, waivers end."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlviews.errors import RefusedError
from mlviews.licences import LicenceRemark, Licences, judge, refuse_denied

DENY = {"deny": ["AGPL-3.0-only", "GPL-3.0-only", "MIT"]}


def verdict(text: str, **keys: Any) -> str:
    remarks = judge([("x", text)], Licences.model_validate({**DENY, **keys}))
    return remarks[0].verdict if remarks else "passes"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BSD-3-Clause", "passes"),
        ("AGPL-3.0-only", "denied"),
        ("agpl-3.0-ONLY", "denied"),
        ("AGPL-3.0-only OR BSD-3-Clause", "passes"),
        ("AGPL-3.0-only OR MIT", "denied"),
        ("AGPL-3.0-only AND BSD-3-Clause", "denied"),
        ("BSD-3-Clause AND (Apache-2.0 OR MIT)", "passes"),
        ("BSD-3-Clause AND (GPL-3.0-only OR MIT)", "denied"),
        ("BSD-3-Clause OR GPL-3.0-only AND MIT", "passes"),
        ("(BSD-3-Clause OR GPL-3.0-only) AND MIT", "denied"),
        ("GPL-3.0-only WITH GCC-exception-3.1", "passes"),
        ("BSD 3-Clause", "unknown"),
        ("MIT/Apache-2.0", "unknown"),
        ("", "unknown"),
        ("a whole licence\n" * 1000, "unknown"),
        ("LicenseRef-NVIDIA-End-User-License-Agreement", "passes"),
    ],
)
def test_an_expression_is_denied_where_nobody_gets_round_it(text, expected):
    assert verdict(text) == expected


IDS = st.sampled_from(["MIT", "BSD-3-Clause", "GPL-3.0-only", "Apache-2.0"])
TREES = st.recursive(IDS, lambda inner: st.tuples(st.sampled_from(["AND", "OR"]), inner, inner), max_leaves=8)


def passes(tree: Any) -> bool:
    if isinstance(tree, str):
        return tree not in DENY["deny"]
    sides = [passes(side) for side in tree[1:]]
    return all(sides) if tree[0] == "AND" else any(sides)


def text_of(tree: Any) -> str:
    return tree if isinstance(tree, str) else f"({text_of(tree[1])} {tree[0]} {text_of(tree[2])})"


@given(tree=TREES)
def test_any_expression_is_read_as_it_is_meant(tree):
    assert (verdict(text_of(tree)) == "passes") == passes(tree)


def test_a_waiver_holds_until_its_last_day_and_for_its_package():
    until = {"x": {"why": "asked its authors", "until": "2999-12-31"}}
    over = {"x": {"why": "asked its authors", "until": "2026-01-01"}}
    today = {"x": {**until["x"], "until": datetime.now(timezone.utc).date().isoformat()}}
    assert verdict("MIT", waive=until) == "waived"
    assert verdict("MIT", waive=today) == "waived"
    assert verdict("any text", waive=until) == "passes"
    assert verdict("any text", waive=over) == "unknown"
    assert verdict("MIT", waive={"y": until["x"]}) == "denied"
    (told,) = judge([("x", "MIT")], Licences.model_validate({**DENY, "waive": over}))
    assert (told.verdict, told.why) == ("denied", "MIT is denied; its waiver ended on 2026-01-01")


@pytest.mark.parametrize("wrong", ["GPL", "MIT OR Apache-2.0", "", "BSD 3-Clause"])
def test_what_is_denied_is_one_licence_by_its_identifier(wrong):
    with pytest.raises(ValidationError):
        Licences.model_validate({"deny": [wrong]})


def test_what_is_denied_is_told_with_the_request_that_brings_it():
    needs = {"plots": {"fonts", "shapes"}, "fonts": {"text"}, "shapes": {"fonts"}, "text": {"fonts"}, "other": {"text"}}
    remarks = [LicenceRemark(name, "GPL-3.0-only", "denied", "no") for name in ("text", "plots", "lonely")]
    with pytest.raises(RefusedError) as caught:
        refuse_denied("demo", remarks, needs, {"plots"})
    assert [fault.partition(": ")[2] for fault in caught.value.faults] == [
        "no; it comes by plots > fonts > text", "no", "no",
    ]  # fmt: skip


def test_lock_refuses_what_the_site_denies_and_tells_what_nobody_can_read(builder: Any, shelf: Any):
    shelf.add("copyleft", license="AGPL-3.0-only")
    shelf.add("vague", license="BSD 3-Clause")
    builder.recipes.recipe("demo", "copyleft", "vague", "plain")
    builder.site("strict", licences=DENY)
    builder.site("waives", licences={**DENY, "waive": {"copyleft": {"why": "ours", "until": "2999-01-01"}}})

    refused = builder("lock", "demo", "--site", "strict", "--json")
    assert (refused.code, refused.codes) == (1, ["licence-denied"])
    assert "copyleft (AGPL-3.0-only): AGPL-3.0-only is denied" in refused.json["errors"][0]["message"]
    assert not builder.lock("demo").exists()

    done = builder("lock", "demo", "--site", "waives", "--json").data["locks"][0]
    assert [(line["package"], line["verdict"]) for line in done["licences"]] == [
        ("copyleft", "waived"),
        ("vague", "unknown"),
    ]
    assert (
        "unknown licence vague of demo: BSD 3-Clause: it is not an SPDX"
        in builder("lock", "demo", "--site", "waives").out
    )
    assert builder("lock", "demo", "--json").data["locks"][0]["licences"] == []
