"""One peer loading one checkpoint folder to resident memory, the way its documentation shows.

  load.py ARM FOLDER [DEVICE]

DEVICE is "cpu" (the default) or "cuda:0". The clock starts after every import, on a GPU also after
its context was made, and stops when the last tensor is there: its last page touched, or the GPU
done with all copies.
"""
import glob
import importlib
import json
import os
import sys

import probe


def transformers_default(folder, files, device):
    import torch  # noqa: F401  (imports are not timed)
    import transformers
    transformers.utils.logging.disable_progress_bar()
    with open(os.path.join(folder, "config.json")) as config:
        family = json.load(config)["model_type"]
    importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    auto = transformers.AutoModelForCausalLM
    on_gpu = {} if device == "cpu" else {"device_map": device}
    with probe.Timed(device) as timed:
        model = auto.from_pretrained(folder, **on_gpu)
        tensors = dict(model.named_parameters(remove_duplicate=False))
        probe.settle(tensors.values(), device)
    probe.check(files, tensors)
    timed.report()


def safetensors_mapped(folder, files, device):
    import safetensors.torch
    with probe.Timed(device) as timed:
        tensors = {}
        for file in files:
            tensors.update(safetensors.torch.load_file(file, device))
        probe.settle(tensors.values(), device)
    probe.check(files, tensors)
    timed.report()


def safetensors_copy(folder, files, device):
    import safetensors.torch
    with probe.Timed(device) as timed:
        tensors = {}
        for file in files:
            shard = safetensors.torch.load_file(file)
            tensors.update((name, tensor.clone()) for name, tensor in shard.items())
            del shard
    probe.check(files, tensors)
    timed.report()


def fastsafetensors(folder, files, device):
    import torch  # noqa: F401
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup
    with probe.Timed(device) as timed:
        loader = SafeTensorsFileLoader(SingleGroup(), device=device, nogds=True)
        loader.add_filenames({0: files})
        buffer = loader.copy_files_to_device()
        tensors = {name: buffer.get_tensor(name) for name in loader.get_keys()}
        probe.settle(tensors.values(), device)
    probe.check(files, tensors)
    timed.report()


def runai_streamer(folder, files, device):
    import torch  # noqa: F401
    from runai_model_streamer import SafetensorsStreamer
    with probe.Timed(device) as timed:
        tensors = {}
        with SafetensorsStreamer() as streamer:
            streamer.stream_files(files, device=device)
            for name, tensor in streamer.get_tensors():
                tensors[name] = tensor.to(device)
        probe.settle(tensors.values(), device)
    probe.check(files, tensors)
    timed.report()


def accelerate_load(folder, files, device):
    """The meta skeleton, filled by accelerate: private memory, or mapped, as it chooses."""
    import accelerate
    import transformers
    config = transformers.AutoConfig.from_pretrained(folder)
    importlib.import_module(
        f"transformers.models.{config.model_type}.modeling_{config.model_type}")
    with probe.Timed(device) as timed:
        with accelerate.init_empty_weights():
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=config.dtype)
        model.tie_weights()
        accelerate.load_checkpoint_in_model(model, folder, device_map={"": device})
        tensors = dict(model.named_parameters(remove_duplicate=False))
        probe.settle(tensors.values(), device)
    probe.check(files, tensors)
    timed.report()


def instanttensor(folder, files, device):
    import instanttensor as it
    import torch  # noqa: F401
    with probe.Timed(device) as timed:
        tensors = {}
        with it.safe_open(files, framework="pt", device=device) as shards:
            for name, tensor in shards.tensors():
                tensors[name] = tensor
        probe.settle(tensors.values(), device)
    probe.check(files, tensors)
    timed.report()


ARMS = {f.__name__: f for f in (transformers_default, safetensors_mapped, safetensors_copy,
                                accelerate_load, fastsafetensors, runai_streamer, instanttensor)}

if __name__ == "__main__":
    arm, folder = sys.argv[1:3]
    ARMS[arm](folder, sorted(glob.glob(os.path.join(folder, "*.safetensors"))),
              sys.argv[3] if len(sys.argv) > 3 else "cpu")
