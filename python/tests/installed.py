"""usage: installed.py CHECKOUT: what an installed package must do, by the Python that has it.

Only the standard library is used, and torch where it is there. CHECKOUT is for making a model: the
package must not know it. Run it from a folder that has nothing to do with either.
"""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
    "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 10000.0, "dtype": "float32",
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
}


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def import_seconds():
    """Of `import berth` in a new process; the median of nine."""
    code = "import time; t = time.perf_counter(); import berth; print(time.perf_counter() - t)"
    return sorted(float(run(sys.executable, "-I", "-c", code)) for _ in range(9))[4]


def make_model(checkout, folder):
    config = folder / "config.json"
    config.write_text(json.dumps(CONFIG))
    model = folder / "a model"
    run(sys.executable, checkout / "scripts/make_checkpoint.py", config, model, "--fill", "random",
        "--shards", "2")
    return model


def check_command(model):
    """The program finds its data files and its libraries inside the package."""
    berth = pathlib.Path(sys.executable).parent / "berth"
    assert run(berth, "--version") == run(sys.executable, "-m", "berth", "--version")
    assert "fits" in run(berth, "plan", model, "--max-memory", "0=64KiB,cpu=1GiB")
    assert "2x4090" in run(berth, "plan", model, "--machine", "2x4090")
    assert "AFTER LOAD" in run(berth, "load", model)
    words = run(berth, "run", model, "--prompt-ids", "1,5,9", "--new-tokens", "3")
    assert words.strip(), "berth run: printed nothing"
    torchless = subprocess.run([berth, "run", model, "--prompt-ids", "1", "--kernels", "reference"],
                               capture_output=True, text=True)
    assert torchless.returncode != 0 and "was built without libtorch" in torchless.stderr


def check_plugin():
    found = importlib.metadata.entry_points(group="vllm.general_plugins")
    assert [point.load().__module__ for point in found if point.name == "berth"] == ["berth.vllm"]


def check_module(berth, model):
    plan = berth.plan(model, {0: "64KiB", "cpu": "1GiB"})
    assert plan.fits and set(plan.device_map.values()) <= {0, "cpu"} and "<svg" in plan.svg()
    try:
        berth.plan(model / "none")
    except FileNotFoundError as error:
        assert "no such file" in str(error)
    else:
        raise AssertionError("a model that is not there was planned")


def check_tensors(berth, model):
    """Returns whether there is a torch to load with."""
    try:
        import torch
    except ImportError:
        return False
    tensors = berth.load_file(model)
    assert sum(t.numel() * t.element_size() for t in tensors.values()) == plan_bytes(berth, model)
    name = "model.layers.1.mlp.up_proj.weight"
    private = berth.load_file(model, memory="private")[name]
    with berth.safe_open(model, framework="pt") as file:
        assert torch.equal(file.get_tensor(name), private) and private.shape == (96, 64)
    tensors[name].add_(1)
    maps = pathlib.Path("/proc/self/maps").read_text().splitlines()
    runtimes = {line.split()[-1] for line in maps if "libcudart" in line}
    assert len(runtimes) <= 1, f"two CUDA runtimes in one process: {runtimes}"
    return True


def plan_bytes(berth, model):
    return json.loads(berth.plan(model).to_json())["model"]["bytes"]


def digest(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).digest() for path in folder.iterdir()}


def main():
    checkout = pathlib.Path(sys.argv[1]).resolve()
    assert not pathlib.Path.cwd().is_relative_to(checkout)
    seconds = import_seconds()
    import berth

    assert not any(name in sys.modules for name in ("torch", "numpy", "ctypes"))
    assert not pathlib.Path(berth.__file__).is_relative_to(checkout / "python"), berth.__file__
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(checkout, pathlib.Path(folder))
        before = digest(model)
        check_command(model)
        check_module(berth, model)
        check_plugin()
        opened = pathlib.Path("/proc/self/maps").read_text()
        assert os.path.dirname(berth.__file__) + "/_native/lib/libberth_c.so" in opened
        with_torch = check_tensors(berth, model)
        assert digest(model) == before
    print(f"berth {berth.__version__} on Python {sys.version.split()[0]}: imported in "
          f"{seconds * 1000:.1f} ms; {'with' if with_torch else 'no'} torch")


if __name__ == "__main__":
    main()
