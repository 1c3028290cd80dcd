"""A Python program that loads one checkpoint folder, by Berth or by what it has today.

  door.py ARM FOLDER

Imports are not timed, and no CUDA context is, nor the opening of Berth's library. Arms whose names
end in `_offloaded` time a forward pass of a model whose layers are on the disk; all others a load,
until the last page of the last tensor is touched, but for `*_mapped`, which end when all tensors are
there.
"""
import glob
import importlib
import json
import os
import sys
import tempfile

import probe


def files_of(folder):
    return sorted(glob.glob(os.path.join(folder, "*.safetensors")))


def berth():
    import berth
    berth.__version__  # opens the library
    return berth


def timed_tensors(folder, load, touched=True, device="cpu"):
    with probe.Timed(device) as timed:
        tensors = load()
        if touched:
            probe.settle(tensors.values(), device)
    probe.check(files_of(folder), tensors)
    timed.report(weights=sum(t.numel() * t.element_size() for t in tensors.values()))


def safetensors_mapped(folder):
    import safetensors.torch
    timed_tensors(folder, lambda: {name: tensor for file in files_of(folder)
                                   for name, tensor in safetensors.torch.load_file(file).items()},
                  touched=False)


def berth_mapped(folder):
    import torch  # noqa: F401
    load_file = berth().load_file
    timed_tensors(folder, lambda: load_file(folder), touched=False)


def safetensors_private(folder):
    import safetensors.torch

    def load():
        tensors = {}
        for file in files_of(folder):
            for name, tensor in safetensors.torch.load_file(file).items():
                tensors[name] = tensor.clone()
        return tensors
    timed_tensors(folder, load)


def berth_private(folder):
    import torch  # noqa: F401
    load_file = berth().load_file
    timed_tensors(folder, lambda: load_file(folder, memory="private"))


def safetensors_converted(folder):
    import safetensors.torch
    import torch
    timed_tensors(folder, lambda: {name: tensor.to(torch.bfloat16) for file in files_of(folder)
                                   for name, tensor in safetensors.torch.load_file(file).items()})


def berth_converted(folder):
    import torch
    load_file = berth().load_file
    timed_tensors(folder, lambda: load_file(folder, dtype=torch.bfloat16))


def fastsafetensors_private(folder):
    import torch  # noqa: F401
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    loader = SafeTensorsFileLoader(SingleGroup(), device="cpu", nogds=True)

    def load():
        loader.add_filenames({0: files_of(folder)})
        buffer = loader.copy_files_to_device()
        return {name: buffer.get_tensor(name) for name in loader.get_keys()}
    timed_tensors(folder, load)


def runai_private(folder):
    import torch  # noqa: F401
    from runai_model_streamer import SafetensorsStreamer

    def load():
        tensors = {}
        with SafetensorsStreamer() as streamer:
            streamer.stream_files(files_of(folder), device="cpu")
            for name, tensor in streamer.get_tensors():
                tensors[name] = tensor.clone()  # the streamer's buffers are used again
        return tensors
    timed_tensors(folder, load)


def timed_model(folder, load, device="cpu"):
    """Also says how many bytes the parameters have, and a sum over all of them, which is the same for
    every way of loading."""
    import torch
    import transformers
    transformers.utils.logging.disable_progress_bar()
    with open(os.path.join(folder, "config.json")) as config:
        family = json.load(config)["model_type"]
    importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    with probe.Timed(device) as timed:
        model = load(transformers)
        parameters = dict(model.named_parameters())
        probe.settle(parameters.values(), device)
    digest = sum(int(p.detach().cpu().view(torch.int16).sum(dtype=torch.int64))
                 for p in parameters.values())
    timed.report(weights=sum(p.numel() * p.element_size() for p in parameters.values()),
                 digest=digest)


def transformers_model(folder):
    timed_model(folder, lambda hf: hf.AutoModelForCausalLM.from_pretrained(folder))


def berth_model(folder):
    module = berth()
    module.from_pretrained  # noqa: B018: imported when asked for
    timed_model(folder, lambda hf: module.from_pretrained(folder, device_map=None))


def transformers_converted_model(folder):
    timed_model(folder, lambda hf: hf.AutoModelForCausalLM.from_pretrained(folder, dtype="bfloat16"))


def berth_converted_model(folder):
    module = berth()
    module.from_pretrained  # noqa: B018
    timed_model(folder, lambda hf: module.from_pretrained(folder, device_map=None,
                                                          dtype="bfloat16"))


def transformers_gpu(folder):
    timed_model(folder, lambda hf: hf.AutoModelForCausalLM.from_pretrained(
        folder, device_map={"": 0}), "cuda:0")


def berth_gpu(folder):
    module = berth()
    module.from_pretrained  # noqa: B018
    timed_model(folder, lambda hf: module.from_pretrained(folder, device_map={"": 0}), "cuda:0")


def timed_forward(folder, dispatch):
    """The median of five passes over one token, after one that is not counted."""
    import accelerate
    import torch
    import transformers
    config = transformers.AutoConfig.from_pretrained(folder)
    with accelerate.init_empty_weights():
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=config.dtype)
    model.tie_weights()
    places = {name: "cpu" for name in ("model.embed_tokens", "model.norm", "model.rotary_emb",
                                       "lm_head")}
    places |= {f"model.layers.{i}": "disk" for i in range(config.num_hidden_layers)}
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as offload, torch.no_grad():
        model = dispatch(model.eval(), places, offload)
        ids = torch.tensor([[1]])
        logits = model(ids).logits
        passes = []
        for _ in range(5):
            with probe.Timed() as timed:
                again = model(ids).logits
            passes.append(timed)
        if not torch.equal(logits, again):
            raise ValueError("two passes differ")
    passes.sort(key=lambda timed: timed.end_ns - timed.start_ns)
    passes[2].report(digest=float(logits.double().sum()))


def accelerate_offloaded(folder):
    import accelerate
    timed_forward(folder, lambda model, places, offload: accelerate.load_checkpoint_and_dispatch(
        model, folder, device_map=places, offload_folder=offload))


def berth_offloaded(folder):
    module = berth()
    timed_forward(folder, lambda model, places, offload: module.load_checkpoint_and_dispatch(
        model, folder, device_map=places))


ARMS = {f.__name__: f for f in (
    safetensors_mapped, berth_mapped, safetensors_private, berth_private, fastsafetensors_private,
    runai_private, safetensors_converted, berth_converted, transformers_model, berth_model,
    transformers_converted_model, berth_converted_model, transformers_gpu, berth_gpu,
    accelerate_offloaded, berth_offloaded)}

if __name__ == "__main__":
    ARMS[sys.argv[1]](sys.argv[2])
