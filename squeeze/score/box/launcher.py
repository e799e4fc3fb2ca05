"""Start of a submission in a box, as a script of `sandbox.py`. Standard library only.

With namespaces: no network, own process table, a file system that holds the interpreter, the system's
libraries, the inputs and a private copy of the submission, an unprivileged user. It ends with this
process: the first process of a PID namespace takes all others along. Without: resource limits, and
where the kernel takes one a filter of system calls (no sockets but Unix ones, no signals to others).
"""

from __future__ import annotations

import ctypes
import errno
import glob
import json
import os
import resource
import shutil
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any, NoReturn

LIBC = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
BIND, REC, PRIVATE, NOSUID, NODEV = 0x1000, 0x4000, 0x40000, 2, 4
MOUNT_SETATTR, RDONLY, RECURSIVE = 442, 1, 0x8000  # one number on every architecture
PDEATHSIG, NO_NEW_PRIVS, SECUREBITS = 1, 38, 28
SET_SECCOMP, SECCOMP_FILTER, PERMITTED, REFUSED = 22, 2, 0x7FFF0000, 0x50000 | errno.EPERM
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # classic BPF
# audit architecture; socket; tgkill; kill, tkill, ptrace, process_vm_writev, rt_sigqueueinfo,
# rt_tgsigqueueinfo, pidfd_send_signal, io_uring_setup (which could open sockets unseen)
CALLS = {
    "x86_64": (0xC000003E, 41, 234, (62, 200, 101, 311, 129, 297, 424, 425)),
    "aarch64": (0xC00000B7, 198, 131, (129, 130, 117, 271, 138, 240, 424, 425)),
}
# add_key, request_key, keyctl; mount, umount2, pivot_root, unshare, setns; open_tree, move_mount,
# fsopen, fsconfig, fsmount
OUTLASTING = {
    "x86_64": (248, 249, 250, 165, 166, 155, 272, 308, 428, 429, 430, 431, 432),
    "aarch64": (217, 218, 219, 40, 39, 41, 97, 268, 428, 429, 430, 431, 432),
}
# memory that belongs to no process: memfd_create, memfd_secret, shmget
UNOWNED = {"x86_64": (319, 447, 29), "aarch64": (279, 447, 194)}
UNIX, FAMILIES = (
    (1,),
    (1, 2, 10, 16),
)  # of sockets; others, such as vsock, know no network namespaces
DEVICES = ["null", "zero", "full", "random", "urandom", "nvidia*"]
ETC = ["ld.so.cache", "localtime", "passwd", "group", "nsswitch.conf", "alternatives", "os-release"]


def check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    names = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    data = None if options is None else options.encode()
    check(LIBC.mount(*names, ctypes.c_ulong(flags), data), f"mount {target}")


def expose(root: str, path: str, writable: bool = False) -> None:
    """Show a path inside: a symbolic link is copied, a file or folder is mounted read-only."""
    inside = root + path
    os.makedirs(os.path.dirname(inside), exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), inside)
        return
    if os.path.isdir(path):
        os.makedirs(inside, exist_ok=True)
    else:
        open(inside, "w").close()
    mount(path, inside, None, BIND | REC)
    if not writable:
        attributes = (ctypes.c_uint64 * 4)(RDONLY, 0, 0, 0)
        arguments = (os.fsencode(inside), RECURSIVE, attributes, ctypes.sizeof(attributes))
        check(LIBC.syscall(MOUNT_SETATTR, -100, *arguments), f"read-only {path}")


def enter_namespaces(user_namespace: bool) -> None:
    uid, gid = os.getuid(), os.getgid()
    flags = NEWNS | NEWIPC | NEWPID | NEWNET | (NEWUSER if user_namespace else 0)
    check(LIBC.unshare(flags), "unshare")
    if user_namespace:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {uid} 1"),
            ("gid_map", f"0 {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def build_root(plan: dict[str, Any]) -> None:
    """Make a new root folder on memory of its own, as large as the disk limit."""
    root = plan["root"]
    mount(None, "/", None, REC | PRIVATE)
    mount("tmpfs", root, "tmpfs", NOSUID | NODEV, f"size={plan['disk']},mode=755")
    for path in plan["visible"]:
        expose(root, path, path in plan["writable"])
    for path in (f"/etc/{name}" for name in ETC):
        real = os.path.realpath(path)
        if os.path.exists(real) and not os.path.exists(root + real):
            expose(root, real)
        if os.path.islink(path):
            os.makedirs(f"{root}/etc", exist_ok=True)
            os.symlink(os.readlink(path), root + path)
    for pattern in DEVICES:
        for path in glob.glob(f"/dev/{pattern}"):
            expose(root, path, writable=True)
    for name in ("dev/shm", "tmp", "proc", "inputs"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    os.chmod(f"{root}/tmp", 0o1777)
    os.chmod(f"{root}/dev/shm", 0o1777)
    mount("proc", f"{root}/proc", "proc", NOSUID | NODEV)
    shutil.copytree(plan["inputs"], f"{root}/inputs", dirs_exist_ok=True)
    shutil.copytree(plan["folder"], f"{root}/submission", symlinks=True)
    if plan["uid"]:
        for folder, _, files in os.walk(f"{root}/submission"):
            for path in [folder, *(os.path.join(folder, name) for name in files)]:
                os.chown(path, plan["uid"], plan["uid"], follow_symlinks=False)
    os.chroot(root)


def limit(plan: dict[str, Any]) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_AS: plan["memory"],
        resource.RLIMIT_CPU: plan["cpu"],
        resource.RLIMIT_FSIZE: plan["disk"],
        resource.RLIMIT_NPROC: plan["processes"],
    }
    for name, value in limits.items():
        if value is not None:
            _, hard = resource.getrlimit(name)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(name, (value, value))


def filter_calls(plan: dict[str, Any]) -> None:
    """Refuse what reaches others or is counted nowhere, from now on and in all children.

    Everywhere: keys, which outlive a process; file systems in memory; sockets of families that know no
    network namespaces; and memory that belongs to no process, where its limit is held by summing over
    processes. Without namespaces: the network and other processes as well.
    """
    machine = os.uname().machine
    arch, socket, tgkill, outside = CALLS[machine]
    alone = plan["filter"]
    refused = [*OUTLASTING[machine], *(outside if alone else ())]
    if plan["memory"] is not None and not plan["group"]:
        refused += UNOWNED[machine]
    steps = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, arch), (RETURN, 0, 0, REFUSED), (LOAD, 0, 0, 0)]
    steps += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, REFUSED)]  # another call table of x86
    for number in refused:
        steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSED)]
    # calls that depend on their first argument: a family, or this process itself (abort and raise)
    firsts = [(socket, UNIX if alone else FAMILIES), *([(tgkill, (os.getpid(),))] if alone else [])]
    for number, allowed in firsts:
        steps += [(EQUAL, 0, 3 + len(allowed), number), (LOAD, 0, 0, 16)]
        steps += [(EQUAL, len(allowed) - i, 0, value) for i, value in enumerate(allowed)]
        steps += [(RETURN, 0, 0, REFUSED), (RETURN, 0, 0, PERMITTED)]
    steps += [(RETURN, 0, 0, PERMITTED)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    check(LIBC.prctl(SET_SECCOMP, SECCOMP_FILTER, program, 0, 0), "seccomp")


def run(plan: dict[str, Any]) -> NoReturn:
    """Replace this process with the command of the submission, once all limits are set."""
    os.chdir(plan["cwd"])
    limit(plan)
    if plan["uid"]:
        os.setgroups([])
        os.setgid(plan["uid"])
        os.setuid(plan["uid"])
    elif plan["namespaces"] and not plan["writable"]:
        check(LIBC.prctl(SECUREBITS, 3, 0, 0, 0), "securebits")  # root inside has no rights
    LIBC.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    try:
        filter_calls(plan)
    except (OSError, KeyError):  # not on this kernel or processor; namespaces do without
        if plan["filter"]:
            raise
    os.execve(plan["command"][0], plan["command"], plan["env"])


def start(child: Callable[[], int]) -> int:
    """Run child() in a new process that dies with this one; return its exit status."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        # the pipes belong to the child alone, or the auditor would never see them end
        for fd in (0, 1):
            os.close(fd)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    LIBC.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() not in (parent, 0):  # 0: the parent is outside the PID namespace
        os._exit(126)
    try:
        os._exit(child() or 0)
    except BaseException as error:
        os.write(2, f"sandbox: {error}\n".encode())
        os._exit(126)


def inside(plan: dict[str, Any]) -> int:
    build_root(plan)
    code = start(lambda: run(plan))
    return code if code >= 0 else 128 - code


def main() -> None:
    LIBC.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # an auditor that is killed takes the box along
    with open(sys.argv[1]) as file:
        plan = json.load(file)
    if plan["group"]:
        with open(plan["group"], "w") as file:
            file.write("0")  # this process, and all that it starts
    if not plan["namespaces"]:
        run(plan)
    enter_namespaces(plan["user_namespace"])
    sys.exit(start(lambda: inside(plan)))


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"sandbox: {error}")
