"""A machine that runs systemd, for as long as a test takes: namespaces in which systemd is process 1.

tests/deploy/run starts a unit in it. It has this machine's programs under /usr, read-only, and nothing else of it: an /etc, a /run,
processes, cgroups and a loopback interface of its own. Kernel variables are read-only there, and it may load no modules and set no
clock, so nothing that systemd does at its start reaches the machine outside. It must be root to be made.
"""

import contextlib
import ctypes
import os
import pathlib
import shutil
import subprocess
import time

SECONDS = 30
CLONE_NEWNET = 0x40000000
# What systemd does of its own at a start, but for the journal: nothing of it is needed, and some of it is for real machines.
WANTS = "systemd-journald.service"

START = """
set -eu
root=$1 local=$2 wants=$3
mount -t tmpfs -o mode=755 tmpfs "$root"
cd "$root"
mkdir -p usr etc/systemd/system proc sys dev run var tmp root
ln -s /run var/run
mount --rbind /usr usr
mount -o remount,bind,ro usr
for name in bin sbin lib lib32 lib64 libx32; do
  if [ -L "/$name" ]; then cp -P "/$name" .
  elif [ -d "/$name" ]; then mkdir "$name"; mount --bind "/$name" "$name"; mount -o remount,bind,ro "$name"; fi
done
mount --bind "$local" usr/local/bin
for folder in usr/lib/systemd/system/*.wants; do mount --bind "$wants" "$folder"; done
cp /etc/ld.so.cache etc/
printf 'root:x:0:0::/root:/bin/sh\\nnobody:x:65534:65534::/:/bin/false\\n' >etc/passwd
printf 'root:x:0:\\ntty:x:5:\\nsystemd-journal:x:101:\\nnogroup:x:65534:\\n' >etc/group
printf 'passwd: files systemd\\ngroup: files systemd\\n' >etc/nsswitch.conf
echo 0123456789abcdef0123456789abcdef >etc/machine-id
printf '[Unit]\\nDescription=The journal, and nothing else\\nDefaultDependencies=no\\nWants=%s\\n' "$4" >etc/systemd/system/tried.target
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
for name in null zero full random urandom tty; do touch "dev/$name"; mount --bind "/dev/$name" "dev/$name"; done
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
ip link set lo up
mkdir run/outside
pivot_root . run/outside
cd /
umount -l run/outside
exec env -i container=tried PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
  setpriv --bounding-set=-sys_module,-sys_time,-sys_boot,-sys_rawio,-syslog \\
  /lib/systemd/systemd --system --unit=tried.target --log-target=journal --show-status=no
"""


class Unavailable(Exception):
    """This machine does not let anybody make another."""


class Machine:
    """Made with `local`, a folder that is its /usr/local/bin; it is gone at the end of a `with`."""

    def __init__(self, work, local):
        for program in ["unshare", "nsenter", "setpriv", "ip"]:
            if not shutil.which(program):
                raise Unavailable(f"{program} is not on this machine")
        if os.geteuid() != 0:
            raise Unavailable("only root can")
        self.cgroup = own_cgroup() / f"fanfare-deploy-{os.getpid()}"
        self.root, wants = work / "machine", work / "wants"
        self.root.mkdir()
        wants.mkdir()
        try:
            self.cgroup.mkdir()
            command = ["sh", "-euc", 'echo $$ >"$0/cgroup.procs"; exec "$@"', self.cgroup,
                       "unshare", "--pid", "--mount", "--net", "--ipc", "--uts", "--cgroup", "--propagation", "private",
                       "--fork", "--kill-child", "sh", "-c", START, "machine", self.root, local, wants, WANTS]
            self.outside = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                            stderr=subprocess.PIPE, text=True)
        except OSError as error:
            raise Unavailable(str(error)) from error

    def __enter__(self):
        try:
            self._await_start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.outside.kill()  # and by that process 1, and by that all others
        self.outside.wait(SECONDS)
        self.outside.stderr.close()
        end = time.monotonic() + SECONDS
        while (self.cgroup / "cgroup.events").read_text().startswith("populated 1") and time.monotonic() < end:
            time.sleep(0.02)
        for folder, _, _ in os.walk(self.cgroup, topdown=False):
            os.rmdir(folder)

    def _await_start(self):
        end = time.monotonic() + SECONDS
        while True:
            if self.outside.poll() is not None:
                raise Unavailable(self.outside.stderr.read().strip()[-200:] or "systemd ended at once")
            with contextlib.suppress(OSError, IndexError, RuntimeError):
                of = self.outside.pid
                self.first = int(pathlib.Path(f"/proc/{of}/task/{of}/children").read_text().split()[0])
                if self.systemctl("is-active", "tried.target").strip() == "active":
                    return
            if time.monotonic() > end:
                raise Unavailable(f"systemd did not start within {SECONDS} s")
            time.sleep(0.05)

    def path(self, inside):
        """Where a file of it stands for those outside."""
        return pathlib.Path(f"/proc/{self.first}/root{inside}")

    def run(self, *command):
        """What a command says in it; an error if it fails, or takes too long."""
        entered = ["nsenter", f"--target={self.first}", "--pid", "--mount", "--net", "--ipc", "--uts", "--cgroup", "--root", "--wd"]
        done = subprocess.run([*entered, *command], capture_output=True, text=True, timeout=2 * SECONDS,
                              env={"PATH": "/usr/local/bin:/usr/bin:/bin"})
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}")
        return done.stdout

    def systemctl(self, *command):
        return self.run("systemctl", "--no-pager", *command)

    def property(self, unit, name):
        return self.systemctl("show", "--value", f"--property={name}", unit).strip()

    def journal(self, unit):
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit)

    @contextlib.contextmanager
    def network(self):
        """Sockets that are made meanwhile are in its network."""
        ours, theirs = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(f"/proc/{self.first}/ns/net", os.O_RDONLY)
        enter = ctypes.CDLL(None, use_errno=True).setns
        try:
            if enter(theirs, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            yield
        finally:
            enter(ours, CLONE_NEWNET)
            os.close(ours)
            os.close(theirs)


def own_cgroup():
    """The folder of the cgroup, of version 2, that this process is in."""
    mounts = [line.split() for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    roots = [mount[1] for mount in mounts if mount[2] == "cgroup2"]
    mine = [line[3:] for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    if not roots or not mine:
        raise Unavailable("there are no cgroups of version 2")
    return pathlib.Path(roots[0]) / mine[0].lstrip("/")
