"""What a release was made of and what it passed, as signed in-toto statements that others can check offline.

The first statement is SLSA's provenance: recipe, lock, every package by its digest, and the builder. Then records
of checks follow as test results, each with what no later one says otherwise. All are about the release's
``release.json``, whose digest covers every file of the release, and about its lock. See
https://github.com/in-toto/attestation/tree/main/spec, https://slsa.dev/spec/v1.0/provenance and
https://github.com/secure-systems-lab/dsse.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import AliasPath, BaseModel, Field, ValidationError

from mlviews.errors import BadInputError, FailedError, RefusedError
from mlviews.files.reading import RELEASE_FILE, content, is_file
from mlviews.lock.parse import read_lock
from mlviews.progress import counted
from mlviews.release import RELEASE_LOCK, Release

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from securesystemslib.signer import Key, Signer

    from mlviews.lock.lockfile import Lock
    from mlviews.smoke.records import Record
    from mlviews.smoke.report import CheckLine

_STATEMENT = "https://in-toto.io/Statement/v1"
_PROVENANCE = "https://slsa.dev/provenance/v1"
_TESTED = "https://in-toto.io/attestation/test-result/v0.1"
_PAYLOAD = "application/vnd.in-toto+json"
_BUILD = "urn:x-mlviews:build:1"
_LONGEST = 64 << 20
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MAKE_KEY = "Make one: `openssl genpkey -algorithm ed25519 -out KEY`; `openssl pkey -in KEY -pubout -out KEY.pub`"


@dataclass(frozen=True, slots=True)
class AttestResult:
    """``mlviews attest VIEW``.

    Attributes:
        lock: the lock's digest.
        path: the statements, one a line, each in an envelope with its signature.
        statements: how many there are.
        key: the identifier of the key that signed them.
    """

    view: str
    release: str
    platform: str
    lock: str
    path: Path
    statements: int
    key: str


@dataclass(frozen=True, slots=True)
class AttestedStatement:
    """A statement whose signature is right.

    Attributes:
        kind: its predicate's type.
        says: who built it, or which checks passed and failed where.
    """

    kind: str
    says: str


@dataclass(frozen=True, slots=True)
class Attestation:
    """What signed statements say of a release that lies here.

    Attributes:
        path: where they are.
        key: the identifier of the key.
        faults: what they say that is not so here.
    """

    path: Path
    key: str
    statements: Sequence[AttestedStatement]
    faults: Sequence[str] = ()


class _Resource(BaseModel):
    name: str = ""
    uri: str = ""
    digest: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, Any] = Field(default_factory=dict)


class _Statement(BaseModel):
    kind: str = Field(alias="_type")
    subject: list[_Resource]
    predicate_type: str = Field(alias="predicateType")
    predicate: dict[str, Any]


class _Provenance(BaseModel):
    dependencies: list[_Resource] = Field(validation_alias=AliasPath("buildDefinition", "resolvedDependencies"))
    builder: str = Field(validation_alias=AliasPath("runDetails", "builder", "id"))


class _Tested(BaseModel):
    result: str
    configuration: list[_Resource]
    passed: list[str] = Field(default_factory=list, alias="passedTests")
    failed: list[str] = Field(default_factory=list, alias="failedTests")


def statements(
    prefix: Path, release: Release, records: Iterable[Record], *, builder: str | None
) -> list[dict[str, Any]]:
    """Return the statements about a release, provenance first.

    Args:
        records: those of its lock, oldest first; of each check the last result on a host's device counts.
        builder: a URI that names who built it, for those who trust builders by name; the site where None.
    """
    subject = _subject(prefix, release)
    lock = read_lock(prefix / RELEASE_LOCK)
    found = [(_PROVENANCE, _provenance(release, lock, subject, builder))]
    ours = [record for record in records if record.platform == release.platform]
    found += [(_TESTED, _tested(record, lines)) for record, lines in _last_words(ours)]
    return [
        {"_type": _STATEMENT, "subject": subject, "predicateType": kind, "predicate": predicate}
        for kind, predicate in found
    ]


def _subject(prefix: Path, release: Release) -> list[dict[str, Any]]:
    name = f"{release.label}/{release.platform}"
    return [
        {"name": f"{name}/{file}", "digest": {"sha256": hashlib.sha256(content(prefix / file) or b"").hexdigest()}}
        for file in (RELEASE_FILE, RELEASE_LOCK)
    ]


def _provenance(release: Release, lock: Lock, subject: list[dict[str, Any]], builder: str | None) -> dict[str, Any]:
    packages = [
        {"uri": package.url, "digest": {"sha256": package.sha256, **({"md5": package.md5} if package.md5 else {})}}
        for package in lock.on(release.platform)
    ]
    recipe = {"name": "recipe", "digest": {"sha256": lock.recipe_digest}}
    return {
        "buildDefinition": {
            "buildType": _BUILD,
            "externalParameters": {"view": release.view, "platform": release.platform, "recipe": dict(lock.inputs)},
            "internalParameters": {"site": release.site, "prefix": release.prefix, "lock": lock.digest},
            "resolvedDependencies": [recipe, subject[1], *packages],
        },
        "runDetails": {
            "builder": {"id": builder or f"urn:x-mlviews:site:{release.site}", "version": {"mlviews": release.mlviews}},
            "metadata": {"invocationId": release.seal, "finishedOn": f"{release.created:%Y-%m-%dT%H:%M:%SZ}"},
        },
    }


def _last_words(records: Sequence[Record]) -> list[tuple[Record, list[CheckLine]]]:
    """Return what no later record of the same host and device says otherwise: a later run may be of one check alone."""
    last = {
        (record.host, line.device, line.name): number
        for number, record in enumerate(records)
        for line in record.checks
        if line.proves
    }
    found = []
    for number, record in enumerate(records):
        lines = [line for line in record.checks if last.get((record.host, line.device, line.name)) == number]
        if lines:
            found.append((record, lines))
    return sorted(found, key=lambda one: one[0].host)


def _tested(record: Record, lines: Sequence[CheckLine]) -> dict[str, Any]:
    by = {status: [line.name for line in lines if line.status == status] for status in ("pass", "fail")}
    devices = sorted({f"{line.device}, driver {line.driver}" for line in lines if line.driver})
    told = {"host": record.host, "created": f"{record.created:%Y-%m-%dT%H:%M:%SZ}", "level": record.level}
    text = record.text().encode()
    return {
        "result": "FAILED" if by["fail"] else "PASSED",
        "configuration": [
            {
                "name": "record",
                "digest": {"sha256": hashlib.sha256(text).hexdigest()},
                "annotations": {**told, "devices": devices},
            }
        ],
        "passedTests": by["pass"],
        "failedTests": by["fail"],
    }


def sign(found: Sequence[dict[str, Any]], signer: Signer) -> tuple[str, str]:
    """Return statements as envelopes with a signature, one a line, and the identifier of the key."""
    from securesystemslib.dsse import Envelope  # noqa: PLC0415  (an extra of mlviews)

    lines = []
    for statement in found:
        envelope = Envelope(json.dumps(statement, sort_keys=True).encode(), _PAYLOAD, {})
        envelope.sign(signer)
        lines.append(json.dumps(envelope.to_dict(), sort_keys=True))
    return "".join(f"{line}\n" for line in lines), signer.public_key.keyid


def check_attestation(path: Path, key: Path, prefix: Path, release: Release) -> Attestation:
    """Check signed statements, and that they are about a release here; of its files `verify` tells.

    Args:
        key: the ed25519 public key in PEM that must have signed each.

    Raises:
        BadInputError: there are no statements, or no key.
        RefusedError: a signature is not by that key.
        FailedError: what checks signatures is not installed.
    """
    public = _public(key)
    found = [_opened(line, path, public) for line in _text(path).splitlines() if line.strip()]
    if not any(statement.predicate_type == _PROVENANCE for statement in found):
        raise BadInputError("attestation-invalid", f"{path} holds no provenance", "`mlviews attest VIEW` writes it.")
    try:
        told = tuple(AttestedStatement(one.predicate_type, _says(one)) for one in found)
        faults = [fault for one in found for fault in _faults(one, prefix, release)]
    except ValidationError as error:
        raise _invalid(path) from error
    return Attestation(path, public.keyid, told, tuple(dict.fromkeys(faults)))


def _unsigned(path: Path, named: Iterable[str], key: Key) -> RefusedError:
    """Return the error for a signature that is not by a key: another key made it, or somebody changed the statement.

    Args:
        named: keys that made signatures, as the file says, which anybody may have written.
    """
    others = sorted(name[:12] for name in {*named} - {key.keyid} if re.fullmatch(r"[0-9a-f]{64}", name))
    if key.keyid in named or not others:
        message, hint = f"a statement of {path} was not signed by this key", "Do not trust that file."
    else:
        message = f"a statement of {path} names the key {' and '.join(others)}, and yours is {key.keyid[:12]}"
        hint = "Give that key, if you trust it. If the site has a new key, ask for statements that are signed with it."
    return RefusedError("attestation-unsigned", message, hint)


def _opened(line: str, path: Path, key: Key) -> _Statement:
    from securesystemslib.dsse import Envelope  # noqa: PLC0415
    from securesystemslib.exceptions import VerificationError  # noqa: PLC0415

    try:
        envelope = Envelope.from_dict(json.loads(line))
        envelope.verify([key], 1)
        statement = _Statement.model_validate_json(envelope.payload)
    except VerificationError as error:
        raise _unsigned(path, envelope.signatures, key) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _invalid(path) from error
    if envelope.payload_type != _PAYLOAD or statement.kind != _STATEMENT:
        raise _invalid(path)
    return statement


def _faults(statement: _Statement, prefix: Path, release: Release) -> Iterable[str]:
    told = {resource.name: resource.digest.get("sha256") for resource in statement.subject}
    for resource in _subject(prefix, release):
        name = resource["name"]
        if name not in told:
            yield f"they are not about {name}"
        elif told[name] != resource["digest"]["sha256"]:
            yield f"{name} is not the release that they are about"
    if statement.predicate_type == _PROVENANCE:
        made_of = _Provenance.model_validate(statement.predicate).dependencies
        stated = {resource.digest.get("sha256") for resource in made_of}
        for package in read_lock(prefix / RELEASE_LOCK).on(release.platform):
            if package.sha256 not in stated:
                yield f"{package.url} is in the lock and not in the provenance"


def _says(statement: _Statement) -> str:
    if statement.predicate_type == _PROVENANCE:
        provenance = _Provenance.model_validate(statement.predicate)
        return f"built by {provenance.builder} of {len(provenance.dependencies)} inputs"
    if statement.predicate_type == _TESTED:
        tested = _Tested.model_validate(statement.predicate)
        host = next((str(one.annotations.get("host", "")) for one in tested.configuration), "")
        failed = f", failed {', '.join(tested.failed)}" if tested.failed else ""
        return f"{tested.result} on {host}: {counted(len(tested.passed), 'check')} passed{failed}"
    return "a statement that this mlviews cannot read"


def read_signer(path: Path) -> Signer:
    """Return what signs with an ed25519 private key in PEM, which only its owner may read.

    Raises:
        BadInputError: it is no such key.
        FailedError: what signs is not installed.
    """
    serialization, ed25519 = _cryptography()
    from securesystemslib.signer import CryptoSigner  # noqa: PLC0415

    try:
        private = serialization.load_pem_private_key(_key_bytes(path), password=None)
    except (ValueError, TypeError) as error:
        raise _no_key(path, "private") from error
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise _no_key(path, "private")
    if path.stat().st_mode & _OTHERS:
        raise BadInputError("key-open", f"other users can read the private key {path}", f"`chmod 600 {path}`")
    return CryptoSigner(private)


def _public(path: Path) -> Key:
    serialization, ed25519 = _cryptography()
    from securesystemslib.signer import SSlibKey  # noqa: PLC0415

    try:
        public = serialization.load_pem_public_key(_key_bytes(path))
    except ValueError as error:
        raise _no_key(path, "public") from error
    if not isinstance(public, ed25519.Ed25519PublicKey):
        raise _no_key(path, "public")
    return SSlibKey.from_crypto(public)


def _cryptography() -> tuple[Any, Any]:
    try:
        import securesystemslib.dsse  # noqa: F401, PLC0415
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ImportError as error:
        hint = "`pip install 'mlviews[sign]'`, where mlviews is installed."
        raise FailedError(
            "sign-missing", "the package that makes and checks signatures is not installed", hint
        ) from error
    return serialization, ed25519


def _key_bytes(path: Path) -> bytes:
    if not is_file(path):
        raise BadInputError("key-missing", f"there is no key {path}", _MAKE_KEY)
    return content(path, most=1 << 16) or b""


def _no_key(path: Path, half: str) -> BadInputError:
    return BadInputError("key-invalid", f"{path} is not a {half} ed25519 key in PEM without a password", _MAKE_KEY)


def _text(path: Path) -> str:
    if not is_file(path):
        raise BadInputError("attestation-missing", f"there is no file {path}", "`mlviews attest VIEW` writes it.")
    return (content(path, most=_LONGEST) or b"").decode(errors="replace")


def _invalid(path: Path) -> BadInputError:
    return BadInputError("attestation-invalid", f"{path} does not hold signed in-toto statements",
                         "`mlviews attest VIEW` writes them.")  # fmt: skip
