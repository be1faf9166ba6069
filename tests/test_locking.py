"""From views to lock files: what is kept, what is written, and what survives a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from mlviews.errors import FailedError
from mlviews.files.writing import make_folder, write_atomically
from mlviews.lock.parse import read_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Cli

OLD = ("--as-of", "2025-06-01")


def versions(cli: Cli, view: str = "x") -> dict[str, str]:
    return {package.name: package.version for package in read_lock(cli.lock(view)).packages}


def statuses(done: Any) -> dict[str, str]:
    return {line["view"]: line["status"] for line in done.data["locks"]}


# What is kept


def test_a_relock_without_changes_writes_nothing(cli: Cli) -> None:
    cli.recipes.recipe("x", "numpy", "python")
    assert statuses(cli("lock", "x", "--json")) == {"x": "new"}
    os.utime(cli.lock("x"), (1, 1))
    assert statuses(cli("lock", "x", "--json")) == {"x": "unchanged"}
    assert cli("lock", "x", "--upgrade").code == 0
    assert cli.lock("x").stat().st_mtime == 1
    cli.recipes.recipe("x", "python", "numpy", summary="Told anew", smoke=["kernel-strat"])
    assert statuses(cli("lock", "x", "--json")) == {"x": "unchanged"}
    told = "no check 'kernel-strat'; did you mean 'kernel-start'?"
    assert told in cli("lock", "x", "--check").out, "a name that no check has is told before a build"
    assert "'kernel-strat'; did you mean 'kernel-start'?" in cli("show", "x").out
    assert cli.lock("x").stat().st_mtime == 1, "prose and order are no part of a lock"


def test_what_was_locked_is_kept_until_an_upgrade(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock", "bystander")
    assert cli("lock", "x", *OLD).code == 0
    assert versions(cli) == {"clock": "2.0", "bystander": "1.0"}
    assert statuses(cli("lock", "x", "--json")) == {"x": "unchanged"}
    cli.recipes.recipe("x", "clock", "bystander", "plain")
    done = cli("lock", "x", "--json")
    assert versions(cli) == {"clock": "2.0", "bystander": "1.0", "plain": "1.0"}
    (change,) = done.data["locks"][0]["changes"]
    assert (change["kind"], change["name"], change["before"], change["after"]) == ("added", "plain", None, "1.0")
    assert cli("lock", "x", "--upgrade").code == 0
    assert versions(cli) == {"clock": "3.0", "bystander": "2.0", "plain": "1.0"}


def test_what_no_longer_fits_is_chosen_anew_alone(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock", "bystander")
    cli("lock", "x", *OLD)
    cli.recipes.recipe("x", "clock >=3", "bystander")
    assert cli("lock", "x").code == 0
    assert versions(cli) == {"clock": "3.0", "bystander": "1.0"}


def test_upgrading_one_package_keeps_the_others(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock", "bystander")
    cli("lock", "x", *OLD)
    assert cli("lock", "x", "--upgrade-package", "clock").code == 0
    assert versions(cli) == {"clock": "3.0", "bystander": "1.0"}


def test_upgrading_one_package_moves_what_it_needs(cli: Cli) -> None:
    cli.recipes.recipe("x", "tick", "bystander")
    cli("lock", "x", *OLD)
    assert versions(cli) == {"tick": "1.0", "clock": "2.0", "bystander": "1.0"}
    done = cli("lock", "x", "--upgrade-package", "tick")
    assert done.code == 0
    assert done.out.endswith("(2 up)\n  tick 1.0 -> 2.0\n"), "only what the recipe asks for is named"
    assert versions(cli) == {"tick": "2.0", "clock": "3.0", "bystander": "1.0"}


def test_no_more_main_packages_are_named_than_a_line_holds(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.recipes.recipe("x", "clock", "bystander", "tick")
    cli("lock", "x", *OLD)
    monkeypatch.setenv("COLUMNS", "40")
    assert cli("lock", "x", "--upgrade").out.splitlines()[1:] == ["  bystander 1.0 -> 2.0, 2 more (-v)"]


def test_upgrading_a_rebuilt_package(cli: Cli, make_channel: Callable[..., Path], tmp_path: Path) -> None:
    old = make_channel(tmp_path / "old", {"linux-64": {"a 1.0 h0_0": [], "b 1.0 h0_0": []}})
    new = make_channel(
        tmp_path / "new",
        {"linux-64": {"a 1.0 h0_0": [], "a 1.0 h0_1": [], "b 1.0 h0_0": [], "b 1.0 h0_1": []}},
    )
    cli.recipes.recipe("x", "a", "b")
    cli("lock", "x", "--mirror", f"conda-forge={old}")
    done = cli("lock", "x", "--upgrade-package", "a", "--mirror", f"conda-forge={new}", "--json")
    (change,) = done.data["locks"][0]["changes"]
    assert (change["kind"], change["name"]) == ("rebuilt", "a")
    assert (change["before"], change["after"]) == ("1.0 h0_0", "1.0 h0_1")


def test_an_upgrade_of_what_is_not_locked(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock")
    cli("lock", "x")
    done = cli("lock", "x", "--upgrade-package", "clokc", "--json")
    assert (done.code, done.codes) == (2, ["package-not-locked"])
    assert "did you mean 'clock'?" in done.json["errors"][0]["message"]


def test_a_package_that_left_the_channel_is_chosen_anew(
    cli: Cli, make_channel: Callable[..., Path], tmp_path: Path
) -> None:
    old = make_channel(tmp_path / "old", {"linux-64": {"a 1.0 h0_0": [], "b 1.0 h0_0": []}})
    new = make_channel(tmp_path / "new", {"linux-64": {"a 2.0 h0_0": [], "b 1.0 h0_0": [], "b 2.0 h0_0": []}})
    cli.recipes.recipe("x", "a", "b")
    cli("lock", "x", "--mirror", f"conda-forge={old}")
    assert cli("lock", "x", "--mirror", f"conda-forge={new}").code == 0
    assert versions(cli) == {"a": "2.0", "b": "1.0"}


def test_as_of_holds_for_what_was_locked_later(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock", "bystander")
    cli("lock", "x")
    assert versions(cli) == {"clock": "3.0", "bystander": "2.0"}
    assert cli("lock", "x", *OLD).code == 0
    assert versions(cli) == {"clock": "2.0", "bystander": "1.0"}


def test_the_day_of_as_of_counts_in_full(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock")
    cli("lock", "x", "--as-of", "2025-01-01")
    assert versions(cli) == {"clock": "2.0"}
    cli("lock", "x", "--as-of", "2024-12-31")
    assert versions(cli) == {"clock": "1.0"}


def test_a_gpu_view_keeps_its_versions_under_the_cuda_rule(cli: Cli) -> None:
    gpu = {"glibc": "2.34", "cuda": "12.9"}
    cli.recipes.recipe("x", "onnxruntime", "bystander", hardware=gpu)
    cli("lock", "x", *OLD)
    cli.recipes.recipe("x", "onnxruntime", "bystander", "plain", hardware=gpu)
    assert cli("lock", "x").code == 0
    assert versions(cli)["bystander"] == "1.0"
    assert versions(cli)["onnxruntime"] == "1.22.0"


@pytest.mark.parametrize("text", ["", "nonsense: [", "version: 1\n"])
def test_locking_mends_a_broken_lock(cli: Cli, text: str) -> None:
    cli.recipes.recipe("x", "clock")
    cli("lock", "x")
    whole = cli.lock("x").read_bytes()
    cli.lock("x").write_text(text)
    assert cli("lock", "x", "--check").code == 2
    assert statuses(cli("lock", "x", "--json")) == {"x": "new"}
    assert cli.lock("x").read_bytes() == whole


# --check


def test_check(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock")
    missing = cli("lock", "x", "--check", "--json")
    assert (missing.code, missing.codes) == (1, ["lock-missing"])
    assert statuses(missing) == {"x": "failed"}
    assert not cli.lockfiles.exists(), "a check writes nothing"
    cli("lock", "x")
    current = cli("lock", "x", "--check", "--json")
    assert (current.code, statuses(current)) == (0, {"x": "unchanged"})
    cli.recipes.recipe("x", "clock", "plain", hardware={"glibc": "2.28"})
    before = cli.lock("x").read_bytes()
    stale = cli("lock", "x", "--check", "--json")
    assert stale.code == 1
    assert stale.codes == ["lock-stale", "lock-stale"]
    text = stale.out
    assert "dependencies: plain added" in text
    assert "hardware.glibc: 2.34 -> 2.28" in text
    assert "mlviews lock x" in stale.json["errors"][0]["hint"]
    assert cli.lock("x").read_bytes() == before


def test_check_asks_no_channel(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock")
    cli("lock", "x")
    assert cli("lock", "x", "--check", "--mirror", "conda-forge=/gone").code == 0


def test_check_refuses_an_edited_lock(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock")
    cli("lock", "x")
    cli.lock("x").write_text(cli.lock("x").read_text().replace("version: '3.0'", "version: '2.0'"))
    done = cli("lock", "x", "--check", "--json")
    assert (done.code, done.codes) == (2, ["lock-invalid"])
    cli("lock", "x")
    cli.lock("x").write_text(cli.lock("x").read_text().replace("sha256: ", "sha256: 0")[: -len("0")])
    assert cli("lock", "x", "--check").code == 2


def test_a_lock_of_another_view_is_no_lock_of_this_one(cli: Cli) -> None:
    for name in ("x", "y"):
        cli.recipes.recipe(name, "clock")
    cli("lock", "x")
    cli.lock("x").rename(cli.lock("y"))
    done = cli("lock", "y", "--check", "--json")
    assert (done.code, done.codes) == (2, ["lock-invalid"])
    assert "is the lock of view 'x'" in done.json["errors"][0]["message"]
    assert cli("lock", "y").code == 0
    assert read_lock(cli.lock("y")).view == "y"


def test_a_lock_that_cannot_be_opened_is_left_alone_and_stops_no_other(cli: Cli) -> None:
    for name in ("x", "y"):
        cli.recipes.recipe(name, "clock")
    cli.lock("x").parent.mkdir(parents=True, exist_ok=True)
    cli.lock("x").symlink_to("/proc/self/mem")  # a file that nobody, root neither, can read from its beginning

    done = cli("lock", "x", "y", "--json")

    assert (done.code, done.codes) == (3, ["lock-unreadable"])
    assert [(line["view"], line["status"]) for line in done.data["locks"]] == [("x", "failed"), ("y", "new")]
    assert cli.lock("x").is_symlink()
    assert read_lock(cli.lock("y")).view == "y"


def test_a_lock_of_another_view_lends_it_no_versions(cli: Cli) -> None:
    for name in ("x", "y"):
        cli.recipes.recipe(name, "clock")
    cli("lock", "x", *OLD)
    cli.lock("x").rename(cli.lock("y"))

    assert cli("lock", "y").code == 0

    assert [package.version for package in read_lock(cli.lock("y")).packages if package.name == "clock"] == ["3.0"]


def test_check_all_names_every_view(cli: Cli) -> None:
    for name in ("a", "b", "c"):
        cli.recipes.recipe(name, "clock")
    cli.recipes.recipe("wheels", "python", pypi=["tagger"])
    cli("lock", "b")
    done = cli("lock", "--all", "--check", "--json")
    assert done.code == 1
    # A lock with wheels is made where the view is built; where it is asked for by name, it is missing.
    assert statuses(done) == {"a": "failed", "b": "unchanged", "c": "failed", "wheels": "none"}
    assert "lock-missing" in cli("lock", "wheels", "--check", "--json").codes


# Several views


def test_one_views_failure_does_not_stop_the_others(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    cli.recipes.recipe("a", "clock")
    cli.recipes.recipe("b", "left", "right")
    cli.recipes.recipe("c", "nothing-of-that-name")
    cli.recipes.recipe("d", "plain")
    cli.recipes.recipe("e", "python", pypi=["wheel==1.0"])
    done = cli("lock", "--all", "--json")
    assert done.code == 1
    assert done.json["status"] == "failed"
    assert statuses(done) == {"a": "new", "b": "failed", "c": "failed", "d": "new", "e": "failed"}
    assert done.codes == ["unsolvable", "package-unknown", "wheel-unknown"]
    assert sorted(path.name for path in cli.lockfiles.iterdir()) == ["a.conda-lock.yml", "d.conda-lock.yml"]
    people = cli("lock", "--all")
    assert people.code == 1
    assert "a: unchanged" in people.out
    assert "These 2 requests cannot stand together" in people.err


def test_a_failure_leaves_the_lock_as_it_was(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock")
    cli("lock", "x")
    before = cli.lock("x").read_bytes()
    cli.recipes.recipe("x", "clock", "left", "right")
    assert cli("lock", "x").code == 1
    assert cli.lock("x").read_bytes() == before


def test_all_views_together_give_what_each_gives_alone(cli: Cli, tmp_path: Path) -> None:
    gpu = {"glibc": "2.34", "cuda": "12.9"}
    cli.recipes.recipe("a", "pytorch-gpu", "onnxruntime", hardware=gpu)
    cli.recipes.recipe("b", "pytorch", "onnxruntime", "gpublas")
    cli.recipes.recipe("c", "numpy", "python", platforms=["linux-64", "linux-aarch64"])
    cli.recipes.recipe("d", "onnxruntime", hardware=gpu, cpu_only=[{"package": "*", "why": "-"}])
    assert cli("lock", "--all").code == 0
    for name in "abcd":
        alone = tmp_path / "alone"
        assert cli("lock", name, "--lockfiles", alone).code == 0
        assert (alone / cli.lock(name).name).read_bytes() == cli.lock(name).read_bytes()


def test_locking_at_once_gives_one_whole_lock(cli: Cli) -> None:
    cli.recipes.recipe("x", "python", "uproot")
    processes = [cli.start("lock", "x") for _ in range(4)]
    for process in processes:
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
    assert [path.name for path in cli.lockfiles.iterdir()] == [cli.lock("x").name]
    assert cli("lock", "x", "--check").code == 0


def test_a_view_named_twice_is_locked_once(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock")
    assert statuses(cli("lock", "x", "x", "--json")) == {"x": "new"}


def test_a_faulty_recipe_stops_all_before_anything_is_written(cli: Cli) -> None:
    cli.recipes.recipe("a", "clock")
    cli.recipes.recipe("b", "python 3.11")
    done = cli("lock", "--all", "--json")
    assert (done.code, done.codes) == (2, ["catalogue-invalid"])
    assert not cli.lockfiles.exists()
    assert cli("lock", "a").code == 0


# Failing to write


def failed_write(cli: Cli, code: str, words: str) -> None:
    before = cli.lock("x").read_bytes()
    cli.recipes.recipe("x", "clock", "plain", "python", "numpy")
    done = cli("lock", "x", "--json")
    assert (done.code, done.codes) == (3, [code])
    message = done.json["errors"][0]["message"]
    assert str(cli.lock("x")) in message
    assert words in message
    assert cli.lock("x").read_bytes() == before, "the old lock is whole"
    assert [path.name for path in cli.lockfiles.iterdir() if path.name.startswith(".")] == [], "nothing is left over"


def test_a_full_disk(cli: Cli, mounted: Any) -> None:
    cli.recipes.recipe("x", "clock")
    with mounted(cli.lockfiles, "-t", "tmpfs", "-o", "size=16k", "tmpfs"):
        assert cli("lock", "x").code == 0
        with suppress(OSError), (cli.lockfiles / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 512)
        failed_write(cli, "disk-full", "No space left on device")
        (cli.lockfiles / "filler").unlink()
        assert cli("lock", "x").code == 0


def test_a_file_that_may_not_grow(cli: Cli) -> None:
    """The kernel's limit on file sizes stands for a quota; it needs no rights."""
    cli.recipes.recipe("x", "clock")
    assert cli("lock", "x").code == 0
    before = cli.lock("x").read_bytes()
    cli.recipes.recipe("x", "clock", "plain", "python", "numpy")
    code = (
        "import resource, runpy, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500));"
        "runpy.run_module('mlviews', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "lock", "x"], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3, done.stderr
    assert f"{cli.lock('x')} cannot be written: File too large" in done.stderr
    assert cli.lock("x").read_bytes() == before
    assert [path.name for path in cli.lockfiles.iterdir()] == [cli.lock("x").name]


def test_a_read_only_folder(cli: Cli, mounted: Any) -> None:
    cli.recipes.recipe("x", "clock")
    assert cli("lock", "x").code == 0
    if os.geteuid() == 0:
        with mounted(cli.lockfiles, "--bind", "-o", "ro", str(cli.lockfiles)):
            failed_write(cli, "write-failed", "Read-only file system")
    else:
        cli.lockfiles.chmod(0o555)
        try:
            failed_write(cli, "write-failed", "Permission denied")
        finally:
            cli.lockfiles.chmod(0o755)


def test_a_folder_of_locks_that_is_a_file(cli: Cli) -> None:
    cli.lockfiles.touch()
    cli.recipes.recipe("x", "clock")
    done = cli("lock", "x", "--json")
    assert (done.code, done.codes) == (3, ["write-failed"])


def test_folders_that_options_name_are_made(cli: Cli, tmp_path: Path) -> None:
    cli.recipes.recipe("x", "clock")
    assert cli("lock", "x", "--lockfiles", tmp_path / "a/b/c").code == 0
    assert (tmp_path / "a/b/c/x.conda-lock.yml").is_file()


def test_a_root_that_cannot_be_written_does_not_matter_to_a_folder_mirror(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock")
    assert cli("lock", "x", "--root", "/proc/nothing").code == 0


def test_writing_keeps_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    reader = path.open()
    write_atomically(path, "néw")
    assert path.read_text() == "néw"
    with reader:
        assert reader.read() == "old"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FailedError) as caught:
        make_folder(tmp_path / "file/folder")
    assert caught.value.code == "write-failed"
