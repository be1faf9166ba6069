"""Archives that rattler cannot bear, and what people are told of a fetch that fails."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlviews.files.writing import delete_tree, walk
from mlviews.prefix.archives import install_failure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import SimpleHTTPRequestHandler

DEEP = "share/" + "d/" * 1500 + "data"


class Stream(io.RawIOBase):
    """A file that cannot be sought in: zipfile then states lengths behind the content."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        self.content += part
        return len(part)


def streamed(archive: Path) -> bytes:
    stream = Stream()
    with zipfile.ZipFile(archive) as packed, zipfile.ZipFile(stream, "w") as written:
        for name in packed.namelist():
            written.writestr(name, packed.read(name))
    return bytes(stream.content)


@pytest.mark.parametrize("over", ["folder", "http"])
def test_an_archive_that_was_written_to_a_stream_is_installed(builder, shelf, serve, over):
    archive = shelf.add("streamed", files={"share/streamed/data": "whole\n" * 1000})
    index = json.loads((shelf.folder / "noarch/repodata.json").read_bytes())["packages.conda"][archive.name]
    archive.write_bytes(streamed(archive))
    shelf._list(archive, index)
    with zipfile.ZipFile(archive) as packed:
        assert all(member.flag_bits & 8 for member in packed.infolist())
    builder.recipes.recipe("tools", "native", "streamed")
    place = shelf.folder if over == "folder" else serve(shelf.folder).url

    built = builder("build", "tools", "--mirror", f"conda-forge={place}", "--json")

    assert built.code == 0, built.out
    prefix = Path(built.data["folder"])
    assert (prefix / "share/streamed/data").read_text() == "whole\n" * 1000
    record = json.loads((prefix / "conda-meta/streamed-1.0-h0_0.json").read_bytes())
    assert (record["url"].startswith("https://"), record["fn"]) == (True, archive.name)
    assert builder("verify", "tools").code == 0
    assert [*(builder.root / "cache").rglob(".archives-*")] == []


@pytest.fixture
def unsafe(builder: Any, shelf: Any, serve: Any, tmp_path: Path) -> Iterator[Any]:
    """A function that builds a view with a package of one path, in a process of its own."""

    def build(path: str, ending: str, over: str) -> Any:
        shelf.add("evil", files={path: "evil"}, ending=ending)
        builder.recipes.recipe("tools", "native", "evil")
        place = shelf.folder if over == "folder" else serve(shelf.folder).url
        return builder.process("build", "tools", "--mirror", f"conda-forge={place}", "--json")

    yield build
    for folder in ("envs", "cache"):
        delete_tree(builder.root / folder)  # pytest cannot delete what lies so deep


@pytest.mark.parametrize("over", ["folder", "http"])
@pytest.mark.parametrize("ending", [".conda", ".tar.bz2"])
@pytest.mark.parametrize("path", ["/nowhere/evil", "share/../../../../evil", DEEP], ids=["absolute", "out", "deep"])
def test_a_path_that_no_package_should_have_is_refused(builder, unsafe, path, ending, over):
    refused = unsafe(path, ending, over)

    assert (refused.code, refused.codes) == (3, ["archive-unsafe"]), refused.err
    message = refused.json["errors"][0]["message"]
    assert message.startswith("evil-1.0-h0_0 holds ")
    assert path[:100] in message
    builder.recipes.recipe("tools", "native")
    assert builder("lock", "tools").code == 0
    assert builder("build", "tools").code == 0


def test_folders_may_lie_deeper_than_python_can_call_itself(tmp_path):
    top = tmp_path / "top"
    (top / "kept").mkdir(parents=True)
    deep = top
    for _ in range(1500):
        deep = deep / "d"
        deep.mkdir()
    (deep / "data").write_text("four")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "data").write_text("stays")
    (top / "link").symlink_to(elsewhere)

    assert sum(1 for _ in walk(top)) == 1503
    assert delete_tree(top, keep={"kept"}) == 4 + len(str(elsewhere))
    assert [path for path, _ in walk(top)] == ["kept"]
    assert delete_tree(top) == 0
    assert not top.exists()
    assert (elsewhere / "data").read_text() == "stays"


def page(handler: SimpleHTTPRequestHandler, path: Path) -> bool:
    del path
    body = b"<!DOCTYPE html><html><body>Log in to the network</body></html>"
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
    return True


@pytest.mark.parametrize("name", ["plain", "oldstyle"])
def test_an_archive_that_the_channel_withdrew_is_no_fault_of_the_network(builder, server, faults, name):
    builder.recipes.recipe("tools", "native", "plain", "oldstyle")
    assert builder("lock", "tools").code == 0
    server.faults[f"/{name}-1.0"] = faults["answers"](404, 1000)

    gone = builder("build", "tools", "--mirror", f"conda-forge={server.url}", "--json")

    assert (gone.code, gone.codes) == (3, ["archive-missing"])
    assert f"{name}-1.0" in gone.json["errors"][0]["message"]
    assert "--upgrade-package" in gone.json["errors"][0]["hint"]
    checked = builder("lock", "tools", "--check")
    assert checked.out.splitlines() == [
        "tools: answers its recipe, 3 packages",
        "No channel was asked. A build tells whether the channels still have each package.",
    ]


@pytest.mark.parametrize("name", ["plain", "oldstyle"])
def test_a_page_in_place_of_an_archive_is_told(builder, server, name):
    builder.recipes.recipe("tools", "native", "plain", "oldstyle")
    assert builder("lock", "tools").code == 0
    server.faults[f"/{name}-1.0"] = page

    failed = builder("build", "tools", "--mirror", f"conda-forge={server.url}", "--json")

    assert (failed.code, failed.codes) == (3, ["archive-invalid"])
    assert "login page" in failed.json["errors"][0]["hint"]


def test_a_package_that_rattler_cannot_read_is_at_fault_itself(builder, shelf):
    shelf.add("vague", files={"share/vague": "v"}, build_number=None)
    shelf.patch("vague", build_number=0)
    builder.recipes.recipe("tools", "native", "vague")

    failed = builder("build", "tools", "--json")

    assert (failed.code, failed.codes) == (3, ["package-broken"])
    assert "vague-1.0-h0_0" in failed.json["errors"][0]["message"]
    assert "lock another build" in failed.json["errors"][0]["hint"]


@pytest.mark.parametrize("said", ["Operation not permitted (os error 1)", "Input/output error", "Permission denied"])
def test_what_a_second_try_does_not_mend_is_not_tried_again(said):
    failure = install_failure(f"failed to link x-1.0-0.conda\nCaused by: {said}")

    assert failure.code == "write-failed"
    assert "again" not in failure.hint


def test_a_shell_that_opens_too_few_files_is_told_how_to_open_more():
    failure = install_failure("failed to fetch x-1.0-0.conda: failed to unpack `x`: Too many open files (os error 24)")

    assert (failure.code, "`ulimit -n 4096`" in failure.hint) == ("files-limited", True)


def test_of_a_chain_of_causes_the_first_and_the_last_are_told():
    chain = ("failed to fetch x-1.0-0.conda", "an io error", "No space left on device")
    failure = install_failure("\nCaused by: ".join(chain))

    assert (failure.code, failure.message) == ("disk-full", "failed to fetch x-1.0-0.conda: No space left on device")


def test_a_root_that_jupyter_would_change_is_refused_before_any_work(builder, tmp_path):
    builder.recipes.recipe("demo", "python", "greet")

    refused = builder("build", "demo", "--root", tmp_path / "a{x}b", "--json")

    assert (refused.code, refused.codes) == (3, ["prefix-unsafe"])
    assert "{x}" in refused.json["errors"][0]["message"]
    assert not builder.lockfiles.exists()


def test_a_failure_ends_the_process_while_other_packages_are_still_unpacked(builder, shelf):
    shelf.add("broken", files={"share/broken": "a file", "share/broken/data": "and a folder"})
    names = [f"many{number}" for number in range(20)]
    for name in names:
        shelf.add(name, files={f"share/{name}/{number}": "data" for number in range(300)})
    builder.recipes.recipe("tools", "native", "broken", *names)

    for _ in range(3):  # of threads, one never knows
        failed = builder.process("build", "tools")
        assert failed.code == 3, failed.err
        assert "broken-1.0-h0_0" in failed.err
        assert "the package is broken" in failed.err
        builder("gc")  # what is whole is unpacked again
