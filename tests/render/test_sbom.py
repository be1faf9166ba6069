"""Bills of materials: the format's own library reads ours, and writes the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from mlviews.lock.lockfile import Lock, LockedPackage
from mlviews.lock.parse import read_lock
from mlviews.render.sbom import render_sbom

# The format's own library takes ten seconds a lock: in each run every sixth package of two locks, one of two platforms
# and one of a GPU view, and all of them when time is no matter.
FOLDER = Path(__file__).parents[2] / "lockfiles"
LOCKS = [
    *((FOLDER / f"{view}.conda-lock.yml", 6) for view in ("inference-cpu", "inference-gpu")),
    *(pytest.param(path, 1, marks=pytest.mark.slow) for path in sorted(FOLDER.iterdir())),
]


@pytest.mark.parametrize(("path", "step"), LOCKS, ids=lambda value: getattr(value, "name", value))
def test_a_bill_of_materials_is_what_the_formats_own_library_writes(path, step):
    stated = ["MIT", "mit", "My own", "LicenseRef-Own", "MIT AND (bsd-3-clause OR GPL-2.0+)", "MIT, or not", "(", " "]
    lock = read_lock(path)
    lock = replace(lock, packages=lock.packages[::step])
    licenses = {package.archive: stated[number % len(stated)] for number, package in enumerate(lock.packages)}

    text = render_sbom(lock, lock.platforms, licenses=licenses)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    ours = json.loads(text)
    theirs = json.loads(JsonV1Dot6(Bom.from_json(ours)).output_as_string())
    del theirs["metadata"]["timestamp"]  # which the format does not ask for
    assert ours == theirs
    for item in ours["components"]:
        assert PackageURL.from_string(item["purl"]).to_string() == item["purl"]


@pytest.mark.parametrize("channel", ["https://conda.example.org:8443/a/b", "file:///srv/a%20b&c?", "https://x/ü"])
def test_any_channel_has_a_package_url(channel):
    said = "1!2.0+cu118~1"
    url = f"{channel}/linux-64/a.b_c-{said}-h_0.conda"
    package = LockedPackage("a.b_c", said, "h_0", "linux-64", url, "", "", 0, {})
    lock = Lock("x", {"platforms": ["linux-64"]}, "", (package,))
    purl = PackageURL.from_string(json.loads(render_sbom(lock, lock.platforms))["components"][0]["purl"])
    assert (purl.name, purl.version, purl.qualifiers["channel"]) == ("a.b_c", said, channel)
