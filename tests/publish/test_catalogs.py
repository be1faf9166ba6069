"""Where nested catalogs go: for any tree, every entry is in one, and none is larger than it must be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlviews.prefix.catalogs import place_catalogs


@st.composite
def trees(draw: st.DrawFn) -> dict[str, int]:
    folders = ["top"]
    for number in range(draw(st.integers(0, 12))):
        folders.append(f"{draw(st.sampled_from(folders))}/{number}")
    return {folder: draw(st.integers(0, 60)) for folder in folders}


@given(trees(), st.integers(20, 100), st.integers(1, 20))
def test_each_entry_is_in_one_catalog_and_none_is_too_large_that_could_be_split(entries, largest, smallest):
    found = place_catalogs(entries, "top", largest=largest, smallest=smallest)

    assert sum(found.values()) == sum(entries.values())
    assert "top" in found
    for folder, size in found.items():
        assert size == listed(entries, found, folder)
        assert folder == "top" or size >= smallest
        if size > largest:  # nothing right below it was worth a catalog of its own
            children = [name for name in entries if name.rpartition("/")[0] == folder and name not in found]
            assert all(listed(entries, found, name) < smallest for name in children)


def listed(entries: dict[str, int], catalogs: dict[str, int], folder: str) -> int:
    """Return what a folder's listing holds: all below it, but not below another catalog."""
    inside = [name for name in entries if name == folder or name.startswith(f"{folder}/")]
    other = [name for name in catalogs if name.startswith(f"{folder}/")]
    return sum(entries[name] for name in inside if not any(name == top or name.startswith(f"{top}/") for top in other))


def test_a_small_tree_has_one():
    assert place_catalogs({"a": 3, "a/b": 4, "a/b/c": 5}, "a") == {"a": 12}


def test_the_largest_folders_are_taken_out_first():
    entries = {"a": 10, "a/big": 90, "a/middle": 50, "a/small": 5}

    assert place_catalogs(entries, "a", largest=100, smallest=10) == {"a": 65, "a/big": 90}
    assert place_catalogs(entries, "a", largest=60, smallest=10) == {"a": 15, "a/big": 90, "a/middle": 50}


def test_a_folder_that_holds_too_much_itself_stays_too_large():
    assert place_catalogs({"a": 1, "a/b": 500}, "a", largest=100, smallest=10) == {"a": 1, "a/b": 500}
