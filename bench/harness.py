"""What all benchmarks here share. Arms run as processes of their own and are measured from outside;
the page cache is made cold or warm, and checked; medians are taken; results are written as JSON
and Markdown, with the machine described in general words. Uses the standard library only.

An arm is a command whose standard output is one JSON object (or, for plan arms, the answer itself).
Arms report `start_ns` and `end_ns` of the work that they time, from CLOCK_MONOTONIC, so that the
memory samples taken from outside can be cut to the same window.
"""
import ctypes
import json
import mmap
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build-bench"
PEERS = WORK / "peers"
SAMPLE_MS = 5


class Unavailable(Exception):
    """An arm that cannot run here; the message goes into the table's notes."""


# --- tools and models ---------------------------------------------------------------------------

def build_tools():
    """Compiles watch, prime and raw_read, which need nothing but a compiler."""
    for tool in ("watch", "prime", "raw_read"):
        build_tool(tool, [os.environ.get("CXX", "c++"), "-std=c++20", "-O2", "-pthread", "-static"])


def build_gpu_tool():
    """Compiles raw_gpu, which needs nvcc."""
    nvcc = os.environ.get("CUDACXX") or shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    try:
        build_tool("raw_gpu", [nvcc, "-x", "cu", "-std=c++20", "-O2"])
    except FileNotFoundError:
        raise Unavailable("no nvcc to compile bench/raw_gpu.cc with (set CUDACXX)") from None


def build_tool(tool, compiler):
    (WORK / "bin").mkdir(parents=True, exist_ok=True)
    source, out = ROOT / "bench" / f"{tool}.cc", WORK / "bin" / tool
    if not out.exists() or out.stat().st_mtime < source.stat().st_mtime:
        subprocess.run([*compiler, source, "-o", out], check=True)


def checkpoint(preset, *options):
    """The folder of a preset of scripts/make_checkpoint.py, made on first use."""
    folder = WORK / "models" / "-".join([preset, *(o.lstrip("-") for o in options)])
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, ROOT / "scripts/make_checkpoint.py", preset, folder,
                        *options], check=True, stdout=sys.stderr)
    return folder


def peer_python():
    """The peers' interpreter. BERTH_PEERS_PYTHON may name one that has the peers already."""
    if os.environ.get("BERTH_PEERS_PYTHON"):
        return os.environ["BERTH_PEERS_PYTHON"]
    python = PEERS / "bin/python"
    if not (PEERS / "installed.txt").exists():
        raise Unavailable("peers are not installed (run bench/setup-peers)")
    return str(python)


def peer_versions():
    """{package: version} of everything that the tables name."""
    names = ["torch", "transformers", "accelerate", "safetensors", "fastsafetensors",
             "runai-model-streamer", "instanttensor", "llama-cpp-python"]
    code = ("import json, importlib.metadata as m\nout = {}\nfor n in " + repr(names) +
            ":\n try: out[n] = m.version(n).split('+')[0]\n except m.PackageNotFoundError: pass\n"
            "print(json.dumps(out))")
    return json.loads(subprocess.check_output([peer_python(), "-c", code]))


def berth_binary():
    binary = Path(os.environ.get("BERTH", ROOT / "build/berth"))
    if not binary.exists():
        raise Unavailable("berth is not built (cmake --preset release && ninja -C build)")
    return str(binary)


def bench_binary():
    """berth_bench, which stands beside berth."""
    binary = Path(berth_binary()).parent / "berth_bench"
    if not binary.exists():
        raise Unavailable("berth_bench is not built (cmake --preset release -DBERTH_BENCH=ON && "
                          "ninja -C build berth_bench)")
    return str(binary)


# --- one process --------------------------------------------------------------------------------

@dataclass
class Sample:
    ns: int
    anonymous: int  # in bytes, as are the others
    shared: int
    file: int


@dataclass
class Run:
    """One process, seen from outside. Seconds and bytes."""
    status: int
    stdout: str
    stderr: str
    start_ns: int
    answer_ns: int  # when its standard output ended
    exit_ns: int
    maxrss: int
    samples: list = field(default_factory=list)

    @property
    def wall(self):
        return (self.exit_ns - self.start_ns) / 1e9

    @property
    def until_answer(self):
        return (self.answer_ns - self.start_ns) / 1e9

    def peak(self, of, begin_ns=0, end_ns=1 << 62):
        """Highest sample of `of(sample)` in a window, bytes."""
        return max((of(s) for s in self.samples if begin_ns <= s.ns <= end_ns), default=0)


def private(sample):
    """Memory that only this process can give back: anonymous and shared."""
    return sample.anonymous + sample.shared


def prime_memory(nbytes):
    """Makes sure that the next `nbytes` of fresh memory come at full speed (see bench/prime.cc)."""
    subprocess.run([WORK / "bin/prime", str(nbytes)], check=True)


def prime_later(nbytes):
    """The environment that makes a peer's arm prime memory between its imports and its clock."""
    return {"BERTH_BENCH_PRIME": f"{WORK / 'bin/prime'} {nbytes}"}


def run(command, sample_ms=SAMPLE_MS, env=None, timeout=900):
    """Runs a command under bench/watch. Raises RuntimeError with its error output if it fails."""
    report = WORK / "watch.report"
    full = [WORK / "bin/watch", report, str(sample_ms)] + [str(c) for c in command]
    process = subprocess.Popen(full, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env={**os.environ, **(env or {})}, text=True)
    try:
        stdout, stderr, answer_ns = read_answer(process, timeout)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    samples, end = [], None
    for line in report.read_text().splitlines():
        kind, *numbers = line.split()
        numbers = [int(n) for n in numbers]
        if kind == "s":
            samples.append(Sample(numbers[0], *(1024 * n for n in numbers[1:])))
        else:
            end = numbers
    if end is None or end[2] not in (0, 2):
        words = (stderr.strip().splitlines() or stdout.strip().splitlines() or ["no output"])[-1]
        raise RuntimeError(f"{Path(str(command[0])).name}: exit {end[2] if end else '?'}: {words}")
    start, stop, status, maxrss = end
    return Run(status, stdout, stderr, start, min(answer_ns, stop), stop, maxrss * 1024, samples)


def read_answer(process, timeout):
    """Standard output, standard error, and when the last byte of the former came."""
    import selectors
    chunks, answer_ns = {process.stdout: [], process.stderr: []}, 0
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for pipe in chunks:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(max(0, deadline - time.monotonic())):
                data = os.read(key.fileobj.fileno(), 1 << 16)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                if key.fileobj is process.stdout:
                    answer_ns = time.monotonic_ns()
                chunks[key.fileobj].append(data)
            if time.monotonic() > deadline:
                raise RuntimeError(f"timed out after {timeout} s")
    process.wait()
    text = [b"".join(parts).decode(errors="replace") for parts in chunks.values()]
    return text[0], text[1], answer_ns


# --- page cache ---------------------------------------------------------------------------------

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                      ctypes.c_long]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


LOW_BIT = bytes(byte & 1 for byte in range(256))  # of mincore's bytes only this counts


def resident_share(files):
    """The share of the files' pages that are in the page cache, as mincore reports it."""
    pages = resident = 0
    for file in files:
        size = os.path.getsize(file)
        count = -(-size // mmap.PAGESIZE)
        with open(file, "rb") as f:
            at = LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, f.fileno(), 0)
        vector = ctypes.create_string_buffer(count)
        failed = LIBC.mincore(at, size, vector)
        LIBC.munmap(at, size)
        if failed:
            raise OSError(ctypes.get_errno(), "mincore", str(file))
        pages += count
        resident += vector.raw[:count].translate(LOW_BIT).count(1)
    return resident / pages


def make_cold(files):
    """Drops the files from the page cache and checks that they are gone."""
    os.sync()
    for file in files:
        with open(file, "rb") as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    share = resident_share(files)
    if share > 0.001:
        raise RuntimeError(f"{share:.1%} of the files stayed in the page cache")


def make_warm(files):
    """Reads the files into the page cache and checks that they stay there."""
    for _ in range(4):
        share = resident_share(files)
        if share > 0.999:
            return
        for file in files:
            with open(file, "rb", buffering=0) as f:
                while f.read(16 << 20):
                    pass
    raise RuntimeError(f"only {share:.1%} of the files stay in the page cache: too little memory")


# --- numbers and words --------------------------------------------------------------------------

def median(values):
    return statistics.median(values)


def spread(values):
    """The range of the runs behind a median: '0.69 to 0.74'."""
    return f"{min(values):.3g} to {max(values):.3g}"


def gb(nbytes):
    return f"{nbytes / 1e9:.2f}"


def mib(nbytes):
    return f"{nbytes / 2**20:.1f}"


def markdown_table(head, rows):
    """A Markdown table: the first column is aligned to the left, the numbers to the right."""
    lines = ["| " + " | ".join(head) + " |",
             "|" + "|".join([" --- "] + [" ---: "] * (len(head) - 1)) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows])


def machine():
    """This machine in general words: no names, no paths."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    total = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1]) * 1024
    kernel = re.match(r"\d+\.\d+", platform.release())[0]
    gpus = 0
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
        gpus = [re.sub(r" \(UUID.*", "", line).split(": ", 1)[1]
                for line in listing.stdout.splitlines() if line.startswith("GPU ")]
    except (OSError, subprocess.TimeoutExpired):
        gpus = []
    return {"cpu": cpu[1].strip() if cpu else platform.machine(), "cores": os.cpu_count(),
            "ram_gib": round(total / 2**30), "kernel": f"Linux {kernel}", "gpus": gpus}


def machine_words(m):
    gpus = ", ".join(m["gpus"]) if m["gpus"] else "no GPU"
    return f"{m['cpu']}, {m['cores']} cores, {m['ram_gib']} GiB of RAM, {m['kernel']}, {gpus}"


def machine_slug(m):
    slug = f"{m['cores']}-core-{m['cpu']}-{m['ram_gib']}gib" + "".join("-" + g for g in m["gpus"])
    return re.sub(r"[^a-z0-9]+", "-", slug.lower()).strip("-")


def progress(text):
    print(text, file=sys.stderr, flush=True)


# --- arms, interleaved ---------------------------------------------------------------------------

@dataclass
class Arm:
    label: str           # its name in the table
    measure: object      # () -> dict of numbers; raises Unavailable or RuntimeError
    runs: list = field(default_factory=list)
    failure: str = ""

    def median(self, key):
        """None where the arm has no run."""
        return median([r[key] for r in self.runs]) if self.runs else None

    def values(self, key):
        return [r[key] for r in self.runs]


def interleave_round(arms, round_, prepare=lambda: None, words=""):
    """Runs every arm once, `prepare` before each. Each round starts one arm later, so that drift
    and neighbours' leftovers hit all alike. An arm that fails is out, with its reason."""
    shift = round_ % len(arms)
    for arm in arms[shift:] + arms[:shift]:
        if arm.failure:
            continue
        prepare()
        try:
            arm.runs.append(arm.measure())
            progress(f"  {words}{arm.label}: {arm.runs[-1]['seconds']:.3f} s")
        except (Unavailable, RuntimeError, OSError, ValueError, KeyError) as error:
            arm.failure = str(error) or type(error).__name__
            progress(f"  {words}{arm.label}: {arm.failure}")


def failures(arms, words=""):
    return [f"{words}{arm.label}: not measured: {arm.failure}" for arm in arms if arm.failure]


def verdict(words, value, limit, at_least=True, unit=""):
    """One line that says whether a target is met; `value` None: not measured."""
    if value is None:
        return f"{words}: not measured"
    met = value >= limit if at_least else value <= limit
    sign = "at least" if at_least else "at most"
    return f"{words}: {value:.3g}{unit} ({sign} {limit:g}{unit}): {'met' if met else 'NOT MET'}"


def ratio(numerator, denominator):
    return numerator / denominator if numerator and denominator else None


def times(value):
    return f"{value:.1f}x" if value else "-"


def publish(name, title, body, data, out):
    """Writes NAME.md and NAME.json to `out` and prints the former."""
    m = machine()
    try:
        versions = peer_versions()
    except Unavailable:
        versions = {}
    named = ", ".join(f"{k} {v}" for k, v in versions.items())
    load = os.getloadavg()[0]
    text = (f"## {title}\n\n{machine_words(m)}. {time.strftime('%Y-%m-%d')}.\n\n{body}\n\n"
            f"Peers: {named or 'none installed'}. Made by `bench/run {name}`.\n")
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(text)
    record = {"machine": m, "peers": versions, "date": time.strftime("%Y-%m-%d"),
              "load_average": load, **data}
    (out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(text)


def raw(arms):
    """What the JSON of a table contains: every run of every arm."""
    return {arm.label: {"runs": arm.runs, "failure": arm.failure} for arm in arms}
