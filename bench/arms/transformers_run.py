"""transformers, eager, on the CPU, with its own KV cache. The command line is in generating.py."""
import torch
import transformers

import generating


class Engine:
    def __init__(self, arguments):
        torch.set_num_threads(arguments.threads)
        transformers.utils.logging.disable_progress_bar()
        self.folder, self.batch = arguments.model, arguments.batch
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            arguments.model, dtype=getattr(torch, arguments.dtype)).eval()
        self.about = {"attention": self.model.config._attn_implementation,
                      "threads": torch.get_num_threads()}

    def encode(self, text):
        return transformers.AutoTokenizer.from_pretrained(self.folder).encode(text)

    def prompt(self, ids):
        self.cache = transformers.DynamicCache(config=self.model.config)
        return self.forward(torch.tensor([ids] * self.batch))

    def step(self, ids):
        return self.forward(torch.tensor(ids)[:, None])

    def forward(self, ids):
        with torch.inference_mode():
            out = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True,
                             logits_to_keep=1)
        return out.logits[:, -1].argmax(dim=-1).tolist()


generating.generate(Engine)
