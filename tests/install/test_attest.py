"""Signed statements of a release: openssl agrees with the signatures, and what is not so is found."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlviews.provenance.attest import read_signer, sign


@pytest.fixture
def key(tmp_path: Path, require: Callable[[str], str]) -> Path:
    return make_key(tmp_path / "key", require("openssl"))


def make_key(path: Path, openssl: str, algorithm: str = "ed25519") -> Path:
    subprocess.run([openssl, "genpkey", "-algorithm", algorithm, "-out", path], check=True, capture_output=True)
    subprocess.run([openssl, "pkey", "-in", path, "-pubout", "-out", f"{path}.pub"], check=True)
    path.chmod(0o600)
    return path


@pytest.fixture
def attested(builder: Any, key: Path, same_place: Any) -> Any:
    def build() -> Any:
        builder.recipes.recipe("demo", "python", "greet")
        return builder("build", "demo", "--json").data

    built = same_place.once(build)
    done = builder("attest", "demo", "--key", key, "--builder", "https://ci.example/runner", "--json")
    assert done.code == 0, done.out
    return {"path": Path(done.data["path"]), "built": built, "told": done.data}


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def statement(envelope: Any) -> Any:
    return json.loads(base64.b64decode(envelope["payload"]))


def verify(cli: Any, attested: Any, key: Path) -> Any:
    return cli("verify", "demo", "--attestation", attested["path"], "--key", f"{key}.pub", "--json")


def test_openssl_agrees_and_they_say_what_the_release_is_made_of(builder, attested, key, tmp_path):
    """The signature is over DSSE's encoding of type and content: https://github.com/secure-systems-lab/dsse."""
    for envelope in lines(attested["path"]):
        payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
        (tmp_path / "signed").write_bytes(f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload)
        (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
        line = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", f"{key}.pub", "-rawin", "-in", "signed"]
        subprocess.run([*line, "-sigfile", "sig"], check=True, cwd=tmp_path, capture_output=True)

    provenance, tested = map(statement, lines(attested["path"]))
    folder = Path(attested["built"]["folder"])
    names = {entry["name"].rpartition("/")[2]: entry["digest"]["sha256"] for entry in provenance["subject"]}
    for name, digest in names.items():
        said = subprocess.run(["sha256sum", folder / name], capture_output=True, text=True, check=True).stdout
        assert said.split()[0] == digest
    assert {*names} == {"release.json", "conda-lock.yml"}
    definition = provenance["predicate"]["buildDefinition"]
    packages = {entry["uri"]: entry["digest"] for entry in definition["resolvedDependencies"] if "uri" in entry}
    locked = builder.lock("demo").read_text()
    assert len(packages) == attested["built"]["packages"]
    assert all(uri in locked and digest["sha256"] in locked for uri, digest in packages.items())
    assert provenance["predicate"]["runDetails"]["builder"]["id"] == "https://ci.example/runner"
    assert tested["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert (tested["predicate"]["result"], tested["predicate"]["failedTests"]) == ("PASSED", [])
    assert "imports" in tested["predicate"]["passedTests"]

    done = verify(builder, attested, key)
    assert done.code == 0
    assert done.data["attestation"]["faults"] == []
    assert len(done.data["attestation"]["statements"]) == attested["told"]["statements"] == 2
    assert "built by https://ci.example/runner of" in builder(
        "verify", "demo", "--attestation", attested["path"], "--key", f"{key}.pub"
    ).out  # fmt: skip


def test_a_later_run_of_one_check_takes_no_other_away(builder, attested, key):
    assert builder("smoke", "demo", "--check", "imports").code == 0
    assert builder("attest", "demo", "--key", key, "-o", attested["path"]).code == 0
    first, later = [statement(line)["predicate"]["passedTests"] for line in lines(attested["path"])[1:]]
    assert (later, "imports" in first, "pip-check" in first) == (["imports"], False, True)


def test_what_failed_is_told_and_nothing_of_another_platform(builder, attested, key):
    (record,) = (builder.root / "records/demo").glob("*/*.json")
    said = json.loads(record.read_text())
    said["checks"][0]["status"] = "fail"
    record.write_text(json.dumps(said))
    assert builder("attest", "demo", "--key", key, "-o", attested["path"]).code == 0
    tested = statement(lines(attested["path"])[1])["predicate"]
    assert (tested["result"], tested["failedTests"]) == ("FAILED", [said["checks"][0]["name"]])

    record.write_text(json.dumps({**said, "platform": "linux-aarch64"}))
    assert builder("attest", "demo", "--key", key, "-o", attested["path"]).code == 0
    assert len(lines(attested["path"])) == 1


def test_what_the_key_signed_as_something_else_is_no_statement(builder, attested, key):
    from securesystemslib.dsse import Envelope

    envelope = Envelope(json.dumps(statement(lines(attested["path"])[0])).encode(), "text/plain", {})
    envelope.sign(read_signer(key))
    attested["path"].write_text(json.dumps(envelope.to_dict()))

    assert verify(builder, attested, key).codes == ["attestation-invalid"]


def test_what_is_not_signed_by_the_key_is_refused(builder, attested, key, tmp_path):
    other = make_key(tmp_path / "other", "openssl")
    rotated = verify(builder, attested, other)
    assert rotated.codes == ["attestation-unsigned"]
    assert (
        f"names the key {read_signer(key).public_key.keyid[:12]}, and yours is " in rotated.json["errors"][0]["message"]
    )

    envelopes = lines(attested["path"])
    said = statement(envelopes[1])
    said["predicate"]["result"] = "FAILED"
    envelopes[1]["payload"] = base64.b64encode(json.dumps(said).encode()).decode()
    attested["path"].write_text("".join(json.dumps(one) + "\n" for one in envelopes))
    changed = verify(builder, attested, key)
    assert (changed.codes, changed.json["errors"][0]["hint"]) == (["attestation-unsigned"], "Do not trust that file.")

    without = [{**lines(attested["path"])[0], "signatures": []}]
    attested["path"].write_text("".join(json.dumps(one) + "\n" for one in without))
    assert verify(builder, attested, key).codes == ["attestation-unsigned"]


def test_statements_of_another_release_and_a_damaged_one_are_told(builder, attested, key):
    builder("build", "demo", "--rebuild")
    another = verify(builder, attested, key)
    assert another.code == 1
    assert any(fault.startswith("they are not about demo/") for fault in another.data["attestation"]["faults"])

    first = f"demo/{attested['built']['release']}"
    options = ("--attestation", attested["path"], "--key", f"{key}.pub", "--json")
    assert builder("verify", first, *options).code == 0
    file = Path(attested["built"]["folder"]) / "release.json"
    file.write_text(file.read_text().replace('"summary": "', '"summary": "X'))
    changed = builder("verify", first, *options)
    assert changed.code == 1
    assert changed.data["attestation"]["faults"] == [
        f"{first}/linux-64/release.json is not the release that they are about"
    ]
    assert builder("attest", first, "--key", key, "--json").codes == ["not-intact"]


def test_a_package_that_the_provenance_leaves_out_is_told(builder, attested, key):
    found = [statement(envelope) for envelope in lines(attested["path"])]
    inputs = found[0]["predicate"]["buildDefinition"]["resolvedDependencies"]
    (left_out,) = [item for item in inputs if "/greet-" in item.get("uri", "")]
    inputs.remove(left_out)
    attested["path"].write_text(sign(found, read_signer(key))[0])

    told = verify(builder, attested, key)

    assert told.code == 1
    (fault,) = told.data["attestation"]["faults"]
    assert fault == f"{left_out['uri']} is in the lock and not in the provenance"


def test_what_holds_no_statements_is_said(builder, attested, key):
    for content in ("", "{}", "[]", "null\n", "x", '{"payload": 1}', "[" * 100_000, "\xff"):
        attested["path"].write_bytes(content.encode("latin-1"))
        assert verify(builder, attested, key).codes == ["attestation-invalid"], content[:20]


def test_a_key_is_the_right_one_and_its_owners_alone(builder, attested, key, tmp_path):
    def attest(path: Path) -> Any:
        return builder("attest", "demo", "--key", path, "-o", tmp_path / "x", "--json").codes

    key.chmod(0o640)
    assert attest(key) == ["key-open"]
    assert attest(tmp_path / "none") == ["key-missing"]
    assert attest(make_key(tmp_path / "x448", "openssl", "x448")) == ["key-invalid"]
    shutil.copy(f"{key}.pub", tmp_path / "public")
    (tmp_path / "public").chmod(0o600)
    assert attest(tmp_path / "public") == ["key-invalid"]
    assert not (tmp_path / "x").exists()
    assert builder("verify", "demo", "--attestation", attested["path"]).code == 2
