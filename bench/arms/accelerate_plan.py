"""accelerate planning a checkpoint folder as a whole process: imports, meta skeleton, device map.

  accelerate_plan.py FOLDER POLICY '{"0": BYTES, "cpu": BYTES}'

Standard output is the device_map as JSON. POLICY: balanced, balanced_low_0 or sequential.
"""
import json
import sys

from accelerate import infer_auto_device_map, init_empty_weights
from accelerate.utils import get_balanced_memory
from transformers import AutoConfig, AutoModelForCausalLM

folder, policy, budgets = sys.argv[1:]
max_memory = {int(k) if k.isdigit() else k: v for k, v in json.loads(budgets).items()}
config = AutoConfig.from_pretrained(folder)
with init_empty_weights():
    model = AutoModelForCausalLM.from_config(config, dtype=config.dtype)
model.tie_weights()
no_split = sorted(model._no_split_modules or [])
if policy != "sequential":
    max_memory = get_balanced_memory(model, max_memory=max_memory,
                                     no_split_module_classes=no_split,
                                     low_zero=policy == "balanced_low_0")
device_map = infer_auto_device_map(model, max_memory=max_memory, no_split_module_classes=no_split)
print(json.dumps(device_map))
