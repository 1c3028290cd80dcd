"""What the peers' arms share: the clock, the memory of their own process, touching of tensors, and
a check that they loaded what the files hold. Runs inside the peers' environment."""
import json
import os
import random
import subprocess
import time


def memory():
    """{VmRSS, RssAnon, RssFile, RssShmem, VmHWM} of this process in bytes."""
    fields = {}
    with open("/proc/self/status") as status:
        for line in status:
            key, _, value = line.partition(":")
            if key in ("VmRSS", "RssAnon", "RssFile", "RssShmem", "VmHWM"):
                fields[key] = int(value.split()[0]) * 1024
    return fields


def reset_peak():
    """Resets the peak, so that VmHWM counts from here on."""
    try:
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")
    except OSError:
        pass


def touch(tensors):
    """Reads a byte of every page, so that mapped tensors are resident."""
    import torch
    total = 0
    for tensor in tensors:
        if tensor.numel():
            flat = tensor.detach().reshape(-1).view(torch.uint8)
            total += int(flat[:: 4096].sum(dtype=torch.int64)) + int(flat[-1])
    return total


def settle(tensors, device):
    """Returns when the tensors are resident in the memory of `device`."""
    if device == "cpu":
        touch(tensors)
        return
    import torch
    strayed = {str(tensor.device) for tensor in tensors} - {device}
    if strayed:
        raise ValueError(f"asked for {device}, got {', '.join(sorted(strayed))}")
    torch.cuda.synchronize(device)


def gpu_used(device):
    """How many bytes of the GPU are in use by all processes; 0 on the CPU."""
    if device == "cpu":
        return 0
    import torch
    free, total = torch.cuda.mem_get_info(device)
    return total - free


def check(files, tensors):
    """Compares a few whole tensors with what safetensors reads, as their dtype. Raises ValueError."""
    import torch
    from safetensors import safe_open
    rng = random.Random(0)
    count = -(-32 // len(files))
    for file in files:
        with safe_open(file, "pt") as shard:
            for key in rng.sample(list(shard.keys()), min(count, len(shard.keys()))):
                loaded = tensors[key].detach().cpu()
                if not torch.equal(shard.get_tensor(key).to(loaded.dtype), loaded):
                    raise ValueError(f"{key} differs from the file")


class Timed:
    """with Timed(device) as t: ...; then t.report(...) prints the arm's JSON."""

    def __init__(self, device="cpu"):
        self.device = device

    def __enter__(self):
        if self.device != "cpu":
            import torch
            torch.zeros(1, device=self.device)  # makes the CUDA context
            torch.cuda.synchronize(self.device)
        begin = time.monotonic()
        if os.environ.get("BERTH_BENCH_PRIME"):
            subprocess.run(os.environ["BERTH_BENCH_PRIME"].split(), check=True)
        self.prime_seconds = time.monotonic() - begin
        self.before = memory()
        self.gpu_before = gpu_used(self.device)
        reset_peak()
        self.start_ns = time.monotonic_ns()
        return self

    def __exit__(self, *exc):
        self.end_ns = time.monotonic_ns()
        self.after = memory()
        self.gpu_after = gpu_used(self.device)

    def report(self, **more):
        print(json.dumps({"start_ns": self.start_ns, "end_ns": self.end_ns,
                          "seconds": (self.end_ns - self.start_ns) / 1e9, "before": self.before,
                          "after": self.after, "prime_seconds": self.prime_seconds,
                          "gpu_bytes": self.gpu_after - self.gpu_before, **more}),
              flush=True)
