"""A free-threaded Python: its modules lie in a folder of another name, which only its record tells (CEP 17)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shelf import MINOR, Shelf

SITE_PACKAGES = f"lib/python{MINOR}t/site-packages"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path / "channel")
    shelf.add_python(free_threaded=True)
    shelf.add("greet", modules={"greet": "def main():\n    print(__file__)\n"}, entry_points=("greet = greet:main",))
    return shelf


@pytest.fixture
def demo(builder):
    builder.recipes.recipe("demo", "python", "greet")
    return builder


def test_modules_byte_code_and_checks_are_where_its_record_says(demo):
    built = demo("build", "demo", "--json").data

    folder = Path(built["folder"])
    assert (folder / SITE_PACKAGES / "greet.py").is_file()
    assert [path.name for path in (folder / SITE_PACKAGES / "__pycache__").iterdir()] == [
        f"greet.cpython-{MINOR.replace('.', '')}.pyc"
    ]
    assert sorted(path.name for path in (folder / f"lib/python{MINOR}/site-packages").iterdir()) == [
        "free-threaded.pth"
    ], "nothing of a package lies where another Python would look"
    assert (folder / f"lib/python{MINOR}t/EXTERNALLY-MANAGED").is_file()
    imports = next(check for check in built["checks"] if check["name"] == "imports")
    assert (imports["status"], imports["reason"]) == ("pass", "1 module: greet")
    assert demo.process("run", "demo", "--", "greet").out == f"{folder / SITE_PACKAGES / 'greet.py'}\n"
    (record,) = (folder / "conda-meta").glob("python-*.json")
    assert json.loads(record.read_text())["python_site_packages_path"] == SITE_PACKAGES
    assert demo("verify", "demo").code == 0


def test_repair_puts_a_module_back_to_where_it_was(demo):
    folder = Path(demo("build", "demo", "--json").data["folder"])
    module = folder / SITE_PACKAGES / "greet.py"
    module.unlink()

    assert demo("verify", "demo", "--repair").code == 0

    assert module.is_file()


@pytest.mark.parametrize("path", ["../../../tmp", "/usr/lib/python3.13/site-packages", "lib/python3.13/../../bin"])
def test_a_channel_that_names_a_folder_elsewhere_is_not_believed(demo, shelf, path):
    shelf.patch("python", python_site_packages_path=path)

    told = demo("lock", "demo", "--json")

    assert told.code == 1
    assert path in json.dumps(told.json["errors"])
    assert not demo.lock("demo").exists()
