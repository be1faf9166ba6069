"""A stand-in for micromamba's `create` with an explicit list: the same command line, the same check of hashes.

It is what the tests' installer image holds, since the real one is to be had from a registry alone.
"""

import argparse
import hashlib
import io
import json
import tarfile
import time
import urllib.request
import zipfile
from pathlib import Path

import zstandard


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["create"])
    for flag in ("--yes", "--no-rc", "--no-pyc"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--prefix", type=Path, required=True)
    parser.add_argument("--file", type=Path, required=True)
    options = parser.parse_args()
    lines = [line for line in options.file.read_text().splitlines() if line and not line.startswith("#")]
    assert lines.pop(0) == "@EXPLICIT"
    (options.prefix / "conda-meta").mkdir(parents=True)
    for line in lines:
        install(*line.split("#sha256:"), options.prefix)
    (options.prefix / "conda-meta/history").write_text(f"==> {time.time_ns()} <==\n")


def install(url, sha256, prefix):
    with urllib.request.urlopen(url) as answer:
        packed = answer.read()
    if hashlib.sha256(packed).hexdigest() != sha256:
        raise SystemExit(f"critical libmamba SHA256 sum for {url} does not match: aborting")
    members = dict(unpack(packed, url))
    index = json.loads(members["info/index.json"][1])
    placeholders = {entry["_path"]: entry for entry in json.loads(members["info/paths.json"][1])["paths"]}
    for path, (kind, content, mode) in members.items():
        if path.startswith("info/"):
            continue
        target = prefix / place(path, prefix)
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind == tarfile.SYMTYPE:
            target.symlink_to(content)
            continue
        target.write_bytes(final(content, placeholders[path], str(prefix).encode()))
        target.chmod(mode)
    (prefix / "conda-meta" / f"{url.rsplit('/', 1)[1].removesuffix('.conda')}.json").write_text(json.dumps(index))


def unpack(packed, url):
    if url.endswith(".conda"):
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            streams = [archive.read(name) for name in archive.namelist() if name.endswith(".tar.zst")]
        tars = [zstandard.ZstdDecompressor().decompressobj().decompress(stream) for stream in streams]
    else:
        tars = [__import__("bz2").decompress(packed)]
    for tar in tars:
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            for member in archive:
                content = member.linkname if member.issym() else archive.extractfile(member).read()
                yield member.name, (member.type, content, member.mode)


def place(path, prefix):
    if not path.startswith("site-packages/"):
        return path
    python = next(prefix.glob("bin/python3.*")).name
    return f"lib/{python}/{path}"


def final(content, entry, prefix):
    old = entry.get("prefix_placeholder", "").encode()
    if not old:
        return content
    if entry["file_mode"] == "text":
        return content.replace(old, prefix)
    parts = content.split(b"\0")
    return b"\0".join(part.replace(old, prefix).ljust(len(part), b"\0") if old in part else part for part in parts)


main()
