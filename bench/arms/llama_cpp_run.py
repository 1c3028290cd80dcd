"""llama.cpp on the CPU through llama-cpp-python's bindings of its C functions, called as llama.cpp's
own benchmark does. The command line is in generating.py; --dtype is ignored, the file decides."""
import ctypes

import llama_cpp
import numpy as np

import generating

SILENT = llama_cpp.llama_log_callback(lambda level, text, data: None)


class Engine:
    def __init__(self, arguments):
        llama_cpp.llama_log_set(SILENT, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.sequences = arguments.batch
        self.model = llama_cpp.llama_model_load_from_file(
            arguments.model.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"{arguments.model}: llama.cpp does not load it")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.tokens = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        prompt = len(arguments.ids or self.encode(arguments.text))
        params = llama_cpp.llama_context_default_params()
        params.n_seq_max = self.sequences
        params.n_ctx = self.sequences * (-(-(prompt + arguments.new) // 256) * 256)
        params.n_batch = params.n_ubatch = max(512, prompt * self.sequences)
        params.n_threads = params.n_threads_batch = arguments.threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.batch = llama_cpp.llama_batch_init(params.n_batch, 0, 1)
        self.about = {"system": llama_cpp.llama_print_system_info().decode(),
                      "threads": arguments.threads}

    def encode(self, text):
        raw = text.encode()
        ids = (llama_cpp.llama_token * (len(raw) + 8))()
        count = llama_cpp.llama_tokenize(self.vocabulary, raw, len(raw), ids, len(ids), False, False)
        return ids[:count]

    def prompt(self, ids):
        memory = llama_cpp.llama_get_memory(self.context)
        llama_cpp.llama_memory_clear(memory, True)
        self.position = 0
        return self.forward([ids] * self.sequences)

    def step(self, ids):
        return self.forward([[each] for each in ids])

    def forward(self, rows):
        """Computes the next tokens of each sequence, and returns the likeliest that follow."""
        at, last = 0, []
        for sequence, ids in enumerate(rows):
            for i, token in enumerate(ids):
                self.batch.token[at] = token
                self.batch.pos[at] = self.position + i
                self.batch.n_seq_id[at] = 1
                self.batch.seq_id[at][0] = sequence
                self.batch.logits[at] = i + 1 == len(ids)
                at += 1
            last.append(at - 1)
        self.batch.n_tokens = at
        self.position += len(rows[0])
        status = llama_cpp.llama_decode(self.context, self.batch)
        if status != 0:
            raise SystemExit(f"llama_decode: {status}")
        return [int(self.logits(row).argmax()) for row in last]

    def logits(self, row):
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, row),
                                     (self.tokens,))


generating.generate(Engine)
