"""Gives one command a memory limit, as a container does: makes a cgroup, v2 or v1, under the one
that this process is in. Needs root or a delegated cgroup; otherwise raises Unavailable with the
reason."""
import os
import time
from pathlib import Path

from harness import Unavailable

ROOT = Path("/sys/fs/cgroup")


def own_folder():
    """(folder of this process's memory cgroup, version)."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return ROOT / "memory" / path.lstrip("/"), 1
    folder = ROOT / Path("/proc/self/cgroup").read_text().split("::", 1)[1].strip().lstrip("/")
    if "memory" not in (folder / "cgroup.subtree_control").read_text():
        raise Unavailable("the memory controller of cgroup v2 is not delegated to us")
    return folder, 2


class MemoryLimit:
    """with MemoryLimit(nbytes) as limit: run(limit.command([...])); limit.peak()"""

    def __init__(self, nbytes):
        self.nbytes = nbytes

    def __enter__(self):
        try:
            parent, self.version = own_folder()
            self.folder = parent / f"berth-bench-{os.getpid()}"
            self.folder.mkdir()
        except (OSError, IndexError) as error:
            raise Unavailable(f"no memory cgroup can be made here: {error}") from error
        name = {1: "memory.limit_in_bytes", 2: "memory.max"}[self.version]
        (self.folder / name).write_text(str(self.nbytes))
        if self.version == 2 and (self.folder / "memory.swap.max").exists():
            (self.folder / "memory.swap.max").write_text("0")
        return self

    def __exit__(self, *exc):
        for _ in range(100):  # the kernel takes a moment to see that the last process has gone
            try:
                self.folder.rmdir()
                return
            except OSError:
                time.sleep(0.05)

    def command(self, command):
        """The command that starts `command` inside the limit."""
        enter = f'echo $$ > "{self.folder}/cgroup.procs" && exec "$@"'
        return ["sh", "-c", enter, "sh", *command]

    def peak(self):
        """Highest charge, page cache included, or None where the kernel does not say."""
        name = {1: "memory.max_usage_in_bytes", 2: "memory.peak"}[self.version]
        try:
            return int((self.folder / name).read_text())
        except OSError:
            return None
