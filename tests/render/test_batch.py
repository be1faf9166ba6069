"""The page that tells how jobs use a view's image, read by a Markdown parser and by bash."""

from __future__ import annotations

import shlex
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mlviews.container.definitions import unpacked
from mlviews.container.describe import of_release
from mlviews.jobs.render import render_page
from mlviews.lock.lockfile import Lock
from mlviews.render import escape
from mlviews.site.model import Images

LOCK = Lock("plotting", {"platforms": ["linux-64"]}, "solver", ())
PLACE = f"docker.io/atlasml/plotting:lock-{LOCK.digest[:12]}"


@pytest.fixture
def page(make_release: Any) -> Any:
    """Return a function that renders the page of a release."""

    def render(**changes: Any) -> list[Any]:
        images = Images(base={"2.34": "a/b"}, repository="docker.io/atlasml")
        return MarkdownIt().parse(render_page(of_release(make_release(glibc="2.34", **changes), LOCK, images), {}))

    return render


def blocks(tokens: list[Any]) -> list[str]:
    return [token.content for token in tokens if token.type == "fence"]


def test_every_summary_is_text(page, hostile):
    for text in hostile:
        tokens = page(summary=text)
        assert "".join(part.content for part in tokens[4].children) == text.strip(" ")
        assert len(blocks(tokens)) == 10


@given(text=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_markdown_gives_printable_text_back(text):
    (paragraph,) = [token for token in MarkdownIt().parse(f"x{escape._markdown(text)}") if token.type == "inline"]
    assert "".join(part.content for part in paragraph.children) == f"x{text}"


def test_a_cpu_view_asks_for_no_gpu(page):
    publish, apptainer, _, slurm, _, condor, _, _, panda, _ = blocks(page())
    assert f"--push {PLACE}" in publish
    assert shlex.split(apptainer.splitlines()[0]) == [
        *("apptainer", "exec", "-e"),
        f"/cvmfs/unpacked.cern.ch/registry.hub.docker.com/atlasml/plotting:lock-{LOCK.digest[:12]}",
        *("python", "train.py"),
    ]
    assert f"docker://{PLACE}" in panda
    assert "nvidia" not in panda
    assert "gpu" not in condor
    assert "gpus" not in slurm
    assert "--nv" not in apptainer


def test_a_gpu_view_asks_for_one_that_it_serves(page):
    _, apptainer, _, slurm, _, condor, worker, _, panda, _ = blocks(page(cuda="12.9", gpus=("A100", "V100", "H100")))
    assert "-e --nv" in apptainer
    assert "--architecture '&nvidia:driver>=575.51'" in panda
    assert "#SBATCH --gpus-per-node=1\n" in slurm
    lines = [" ".join(line.split()) for line in condor.splitlines() if " = " in line]
    submit = dict(line.split(" = ", 1) for line in lines)
    assert (submit["request_gpus"], submit["gpus_minimum_capability"]) == ("1", "7.0")
    assert "apptainer exec -e --nv /cvmfs/unpacked.cern.ch/" in worker


def test_bash_reads_what_is_for_a_shell(page):
    for number, text in enumerate(blocks(page(cuda="12.9"))):
        if number != 5:  # HTCondor's own language
            subprocess.run(["bash", "-n", "-c", text], check=True)


def test_a_registry_is_unpacked_under_its_own_name():
    assert unpacked("gitlab-registry.cern.ch/a/b:1") == "/cvmfs/unpacked.cern.ch/gitlab-registry.cern.ch/a/b:1"
