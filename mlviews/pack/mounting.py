"""Running a program where a release will lie: a folder or an image is put there for that program alone.

Its mount namespace ends with it, and so does the mount; on the host nothing changes. Where the place does not exist,
the nearest folder above it is covered by one that holds the same and the place.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mlviews.errors import FailedError, last_line

_PROBE_SECONDS = 20

AS_ROOT = ("unshare", "--mount")
"""What gives a program a mount namespace; it is to be root's."""
AS_USER = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""What lets anybody mount for a program; what mounts by a process of its own, as squashfuse does, ends with it."""
SCRIPT = r"""
set -eu
how=$1 source=$2 place=$3 user=$4 group=$5
shift 5
back=$PWD
path=${PATH-}
PATH=$path:/usr/sbin:/sbin # mount and chroot are an administrator's programs; the command's PATH may know no others
root=
put() {
    case $how in
    folder) mount --bind "$source" "$1"; [ -n "$user" ] || mount -o remount,bind,ro "$1" ;;
    kernel) mount -t squashfs -o loop,ro,nosuid,nodev "$source" "$1" ;;
    fuse) squashfuse "$source" "$1" ;;
    esac
}
if [ -d "$place" ]; then
    put "$place"
else
    above=$place
    while ! [ -d "$above" ]; do above=${above%/*}; above=${above:-/}; done
    new=$(mktemp -d -p /dev/shm)
    mount -t tmpfs -o mode=755 mlviews "$new"
    for each in "${above%/}"/* "${above%/}"/.[!.]*; do
        copy=$new/${each##*/}
        if [ -L "$each" ]; then
            cp -P "$each" "$copy"
        elif [ -d "$each" ]; then
            mkdir "$copy"
            mount --rbind "$each" "$copy"
        elif [ -e "$each" ]; then
            : > "$copy"
            mount --bind "$each" "$copy"
        fi
    done
    inner=$new/${place#"${above%/}/"}
    mkdir -p "$inner"
    put "$inner"
    if [ "$above" = / ]; then
        umount -l "$new$new" # what holds the same holds it too
        cd "$new"
        mount --move . / # a small Debian has no pivot_root; in a mere chroot nobody could make user namespaces
        rmdir "$new"
        root="chroot ."
    else
        mount --rbind "$new" "$above"
        umount -l "$new"
        rmdir "$new"
    fi
fi
[ -z "$user" ] || set -- unshare --user --fork --map-user="$user" --map-group="$group" -- "$@"
exec $root sh -c 'cd "$1" 2>/dev/null || cd /; PATH=$2; shift 2; exec "$@"' mlviews "$back" "$path" "$@"
"""
"""What mounts, for ``sh -c``: how (folder, kernel, fuse), what, where, user and group to be again (empty for root), and
the command."""

APPTAINER = r"""
set -eu
source=$1 place=$2
shift 2
case $source$place in *[,:\\]*) echo "Apptainer takes no path with a comma, a colon or a backslash" >&2; exit 1 ;; esac
root=${XDG_CACHE_HOME:-$HOME/.cache}/mlviews/apptainer # an empty container, which all of the host is shown in
mkdir -p "$root/dev"
shown= above= deeper=/
while [ "$deeper" ]; do
    deeper=
    for each in "$above"/* "$above"/.[!.]*; do
        case $each in /dev | *[,:\\]*) continue ;; esac
        [ -e "$each" ] || continue
        case $place in "$each"/*) [ -d "$place" ] || { deeper=$each; continue; } ;; esac
        shown=$shown$each,
    done
    above=$deeper
done
exec apptainer --silent exec --no-mount proc,sys,devpts,tmp,home,cwd,hostfs,bind-paths \
    --bind "$shown$source:$place:image-src=/" "$root" \
    /bin/sh -c 'cd "$1" && HOME=$2 PATH=$3 && shift 3 && exec "$@"' mlviews "$PWD" "$HOME" "$PATH" "$@"
"""
"""What lets Apptainer mount an image, for ``sh -c``: what, where, and the command. Hosts that have Apptainer need no
squashfuse of their own, and where it is installed for it, its kernel mounts."""


def entering(source: Path, place: Path) -> tuple[str, ...]:
    """Return what goes before a command, so that the command finds ``source`` at ``place``, and cannot write there.

    Root mounts it in a namespace of its own (``unshare``); others need ``bwrap`` for a folder, ``squashfuse`` or
    Apptainer for an image, or user namespaces. Each way is tried once with ``true``.

    Args:
        source: a folder, or a squashfs image.
        place: the path that is written into its files.

    Raises:
        FailedError: ``mount-missing``: no way works here; its faults say why.
    """
    return _entering(source.absolute(), place)


@functools.cache
def _entering(source: Path, place: Path) -> tuple[str, ...]:
    faults = []
    for name, way in _ways(source, place):
        fault = _fault(way)
        if fault is None:
            return way
        faults.append(f"{name}: {fault}")
    raise FailedError(
        "mount-missing",
        f"{source} cannot be mounted at {place} here",
        "Run this as root, or install bubblewrap (bwrap). An image also needs /dev/fuse and squashfuse or Apptainer.",
        faults=tuple(faults),
    )


def _ways(source: Path, place: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    is_folder = source.is_dir()
    script = ("sh", "-c", SCRIPT, "mlviews")
    if os.geteuid() == 0:
        how = "folder" if is_folder else "kernel"
        yield "unshare", (*AS_ROOT, *script, how, str(source), str(place), "", "")
    elif is_folder:
        yield "bwrap", ("bwrap", "--die-with-parent", *_around(place), "--ro-bind", str(source), str(place), "--")
    user, group = str(os.geteuid()), str(os.getegid())
    how = "folder" if is_folder else "fuse"
    yield "user namespace", (*AS_USER, *script, how, str(source), str(place), user, group)
    if not is_folder:
        yield "Apptainer", ("sh", "-c", APPTAINER, "mlviews", str(source), str(place))


def _around(place: Path) -> Iterator[str]:
    """Yield bwrap's arguments for the host as it is, with a place to mount to."""
    above = next(folder for folder in (place, *place.parents) if folder.is_dir())
    if above == place:
        yield from ("--dev-bind", "/", "/")
        return
    if above.parent != above:
        yield from ("--dev-bind", "/", "/")
    yield from ("--tmpfs", str(above))
    for path in sorted(above.iterdir()):
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        else:
            yield from ("--dev-bind", str(path), str(path))


def _fault(way: tuple[str, ...]) -> str | None:
    """Return why a way does not work; None where it does."""
    if shutil.which(way[0]) is None:
        return f"there is no {way[0]}"
    try:
        tried = subprocess.run(
            [*way, "true"], check=False, capture_output=True, text=True, errors="replace", timeout=_PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"it gave no answer within {_PROBE_SECONDS} s"
    return last_line(tried.stderr, f"it ended with status {tried.returncode}") if tried.returncode else None
