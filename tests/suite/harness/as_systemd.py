"""Runs a program as systemd would run it for a unit, as far as that can be had without systemd as the first process:
as_systemd.py UNIT STATE PROGRAM [ARGUMENT...]. As root, with libseccomp and systemd-analyze. A setting that it does not
know is an error, so that the unit cannot say more than is tried here. STATE stands for the state and runtime
directories, and PROGRAM for the one of the unit.
"""

import ctypes
import os
import resource
import subprocess
import sys

# Settings of the service manager itself, or that only bound how much; nothing a program could trip over here.
ELSEWHERE = """
Type NotifyAccess ExecStart ExecReload StateDirectory StateDirectoryMode RuntimeDirectory RuntimeDirectoryMode
ConfigurationDirectory TimeoutStartSec WatchdogSec KillMode TimeoutStopSec Restart RestartSec RestartPreventExitStatus
OOMPolicy Slice Delegate DelegateSubgroup TasksMax LimitAS KeyringMode RemoveIPC ProtectHostname ProtectControlGroups
ReadWritePaths DevicePolicy IPAddressDeny ProtectClock ProtectKernelLogs ProtectKernelModules WorkingDirectory User Group
PrivateMounts AmbientCapabilities
""".split()
NAMESPACES = dict(mnt=0x20000, cgroup=0x2000000, uts=0x4000000, ipc=0x8000000, user=0x10000000, pid=0x20000000,
                  net=0x40000000, time=0x80)
FAMILIES = dict(AF_UNIX=1, AF_INET=2, AF_INET6=10)
NOBODY = 65534
EPERM, EAFNOSUPPORT = 1, 97
ALLOW, MASKED_EQUAL, EQUAL = 0x7FFF0000, 7, 4


def settings(unit):
    text = open(unit).read().split("[Service]")[1].split("[Install]")[0]
    return [line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#")]


def shell(script):
    subprocess.run(["sh", "-ec", script], check=True)


class Comparison(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("operator", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


class Filter:
    """A filter of system calls, through libseccomp. Each of systemd's settings installs one of its own."""

    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p

    def __init__(self, otherwise):
        self.context = ctypes.c_void_p(self.library.seccomp_init(otherwise))

    def rule(self, action, name, *comparisons):
        number = self.library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # others are of another architecture
            array = (Comparison * max(1, len(comparisons)))(*[Comparison(*one) for one in comparisons])
            done = self.library.seccomp_rule_add_array(
                self.context, ctypes.c_uint32(action), number, len(comparisons), array)
            assert done == 0, (name, done)

    def load(self):
        assert self.library.seccomp_load(self.context) == 0


def error(number):
    return 0x00050000 | number


def calls(group):
    """Returns the system calls of a group such as @system-service, or of a plain name."""
    if not group.startswith("@"):
        return {group}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", group], check=True, capture_output=True, text=True)
    words = [line.strip() for line in listed.stdout.splitlines()[1:]]
    words = [word for word in words if word and not word.startswith("#")]
    return set().union(*[calls(word) for word in words])


def install(program, state, path):
    """Shows the program where the unit expects it, and gives the state to the user that it runs as."""
    shell(f"""
        mount --make-rprivate /
        mount --bind {state} {state}
        chown -R {NOBODY} {state}
        folder=$(dirname {path})
        mount -t tmpfs -o mode=755 tmpfs "$folder"
        touch {path} && mount --bind {program} {path}""")


def mount(key, value, state):
    if key == "ProtectSystem" and value == "strict":
        shell(f"""
            for at in $(awk '{{print $5}}' /proc/self/mountinfo); do
                case $at in /dev*|/proc*|/sys*|/tmp|/var/tmp|{state}) ;; *) mount -o remount,bind,ro "$at" 2>/dev/null || true ;; esac
            done""")
    elif key == "ProtectHome" and value == "yes":
        shell("for at in /home /root /run/user; do [ ! -d $at ] || mount -t tmpfs -o ro,mode=0 tmpfs $at; done")
    elif key == "PrivateTmp" and value == "yes":
        # The state of a test lies in it, and stays.
        shell(f"""
            mount -t tmpfs -o mode=1777 tmpfs /var/tmp
            mkdir /var/tmp/state && mount --bind {state} /var/tmp/state
            mount -t tmpfs -o mode=1777 tmpfs /tmp
            mkdir -p {state} && mount --move /var/tmp/state {state} && rmdir /var/tmp/state""")
    elif key == "PrivateDevices" and value == "yes":
        shell("""
            mkdir -p /var/tmp/dev && mount -t tmpfs -o mode=755 tmpfs /var/tmp/dev
            for name in null zero full random urandom tty; do
                touch /var/tmp/dev/$name && mount --bind /dev/$name /var/tmp/dev/$name
            done
            mkdir /var/tmp/dev/shm && mount --rbind /var/tmp/dev /dev""")
    elif key == "ProcSubset" and value == "pid":
        shell("mount -t proc -o subset=pid proc /proc")
    elif key == "ProtectKernelTunables" and value == "yes":
        shell("mount -o remount,bind,ro /sys")
    else:
        return False
    return True


def main():
    unit, state, *program = sys.argv[1:]
    lines = settings(unit)
    value = {key: value for key, value in lines}
    assert value["PrivateNetwork"] == "yes" and value["NoNewPrivileges"] == "yes" and value["CapabilityBoundingSet"] == ""
    # Read before anything is denied.
    allowed = set()
    for key, names in lines:
        if key == "SystemCallFilter":
            named = set().union(*[calls(name) for name in names.lstrip("~").split()])
            allowed = allowed - named if names.startswith("~") else allowed | named
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(NAMESPACES["mnt"] | NAMESPACES["net"]) == 0, "cannot unshare: this needs root"
    path = value["ExecStart"].split()[0]
    install(program[0], state, path)
    # What is there is closed to writing last, and /proc after that, which lists it.
    last = ["ProtectSystem", "ProcSubset"]
    for key, wanted in sorted(lines, key=lambda line: last.index(line[0]) if line[0] in last else -1):
        done = mount(key, wanted, state) or key in ELSEWHERE or key in (
            "PrivateNetwork", "NoNewPrivileges", "CapabilityBoundingSet", "UMask", "LimitNOFILE", "LimitCORE",
            "SystemCallFilter", "SystemCallArchitectures", "SystemCallErrorNumber", "RestrictNamespaces",
            "RestrictAddressFamilies", "RestrictRealtime", "LockPersonality")
        assert done, f"the unit sets {key}, which is not tried here"
    os.umask(int(value["UMask"], 8))
    # What is bounded lower already cannot be raised here.
    files = min(int(value["LimitNOFILE"]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    for capability in range(64):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; fails beyond the last one
    os.setgroups([])
    # The group stays: it is that of the test, which calls through `listen.group`.
    os.setresuid(NOBODY, NOBODY, NOBODY)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS

    assert value["SystemCallErrorNumber"] == "EPERM"
    families = Filter(ALLOW)
    permitted = {FAMILIES[name] for name in value["RestrictAddressFamilies"].split()}
    for family in set(range(1, 46)) - permitted:
        families.rule(error(EAFNOSUPPORT), "socket", (0, EQUAL, family, 0))
    namespaces = Filter(ALLOW)
    for name in set(NAMESPACES) - set(value["RestrictNamespaces"].split()):
        for call in ("unshare", "clone"):
            namespaces.rule(error(EPERM), call, (0, MASKED_EQUAL, NAMESPACES[name], NAMESPACES[name]))
    namespaces.rule(error(38), "clone3")
    realtime = Filter(ALLOW)
    for policy in (1, 2, 6):
        realtime.rule(error(EPERM), "sched_setscheduler", (1, EQUAL, policy, 0))
    listed = Filter(error(EPERM))
    for name in sorted(allowed):
        listed.rule(ALLOW, name)
    for one in (families, namespaces, realtime, listed):
        one.load()
    os.execv(path, [path, *program[1:]])


if __name__ == "__main__":
    sys.exit(main())
