"""Builds one wheel of sources whose code may do anything, by PEP 517: a program that shuts itself in first.

Run as ``python -S build_program.py FOLDER TOOLS BACKEND PATHS [READABLE...]``, in the sources: FOLDER is all that may
be written, and takes the wheel in ``wheel/``; TOOLS holds what the build requires; PATHS, joined by ``:``, are where
the sources keep a backend of their own. It prints ``unguarded`` where the kernel has no Landlock, and imports nothing
of mlviews.

Linux lets everybody shut themselves in with two means, in containers too, where namespaces are mostly refused:

- A seccomp filter: no socket, so no network; nothing of other processes, of keyrings, of mounts. Changes of modes,
  owners and dates, which Landlock does not guard, are made to look done and are not.
- Landlock: of files, only the system's, Python's and TOOLS are readable, so no home; only FOLDER is writable.

Sources: seccomp(2), landlock(7), the kernel's tables of system calls.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from contextlib import suppress
from importlib import import_module

_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# The calls socket and io_uring_setup; ptrace, process_vm_readv, process_vm_writev, perf_event_open, pidfd_getfd;
# add_key, request_key, keyctl; unshare, setns, mount, chroot, pivot_root; bpf, userfaultfd, open_by_handle_at, mknod.
_REFUSED = {
    "x86_64": (41, 425, 101, 310, 311, 298, 438, 248, 249, 250, 272, 308, 165, 161, 155, 321, 323, 304, 133, 259),
    "aarch64": (198, 425, 117, 270, 271, 241, 438, 217, 218, 219, 97, 268, 40, 51, 41, 280, 282, 265, 33),
}
# The kinds of chmod, chown, setxattr, removexattr and utime
_IDLE = {
    "x86_64": (90, 91, 268, 452, 92, 93, 94, 260, 188, 189, 190, 197, 198, 199, 132, 235, 261, 280),
    "aarch64": (52, 53, 452, 55, 54, 5, 6, 7, 14, 15, 16, 88),
}
_X32 = 0x40000000  # another numbering of x86_64's calls
_ALLOW, _KILL, _ERRNO, _NOT_PERMITTED = 0x7FFF0000, 0x80000000, 0x00050000, 1
_LOAD, _EQUAL, _FROM, _RETURN = 0x20, 0x15, 0x35, 0x06
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2

_CREATE_RULESET, _ADD_RULE, _RESTRICT = 444, 445, 446
_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # Landlock's version -> how many rights to files it knows
_READ, _USE = 0b1101, 0b0110  # execute, read a file, read a folder; write and read a file
_SCOPED = 0b11  # version 6: neither signals nor abstract sockets to those outside
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/opt")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")

_libc = ctypes.CDLL(None, use_errno=True)


def _called(done: int) -> int:
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done


def keep_from_network() -> None:
    """Let this process and its children make none of the calls above, for good."""
    machine = platform.machine()
    lines = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        (_FROM, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
    ]
    for numbers, answer in ((_REFUSED[machine], _NOT_PERMITTED), (_IDLE[machine], 0)):
        for number in numbers:
            lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | answer)]
    lines.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code))
    _called(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _called(_libc.prctl(_SET_SECCOMP, _FILTER, program, 0, 0))


def keep_from_files(writable: str, readable: list[str]) -> bool:
    """Let this process and its children see only some files, for good; tell whether the kernel can."""
    version = _libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    every = (1 << max(count for known, count in _RIGHTS.items() if known <= version)) - 1
    attributes = struct.pack("QQQ", every, 0, _SCOPED)
    size = 24 if version >= 6 else 8
    ruleset = _called(_libc.syscall(_CREATE_RULESET, attributes[:size], size, 0))
    rights = [(writable, every), *((path, _READ) for path in (*_SYSTEM, *readable)), *((p, _USE) for p in _DEVICES)]
    for path, allowed in rights:
        with suppress(FileNotFoundError):
            where = os.open(path, os.O_PATH)
            _called(_libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", allowed, where), 0))
            os.close(where)
    _called(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _called(_libc.syscall(_RESTRICT, ruleset, 0))
    os.close(ruleset)
    return True


def main() -> None:
    """Shut in, build."""
    folder, tools, backend, paths, *readable = sys.argv[1:]
    if not keep_from_files(folder, [tools, *readable]):
        print("unguarded", flush=True)
    keep_from_network()
    name, _, attribute = backend.partition(":")
    sys.argv = ["setup.py"]
    sys.path[:1] = [*(paths.split(":") if paths else ()), tools]  # the first was this program's folder
    found = import_module(name)
    for part in attribute.split(".") if attribute else ():
        found = getattr(found, part)
    found.build_wheel(os.path.join(folder, "wheel"))  # noqa: PTH118  (pathlib would be imported for this alone)


if __name__ == "__main__":
    main()
