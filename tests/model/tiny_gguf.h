// A GGUF file that is a whole model: weights, config and tokenizer.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/model/gguf_writer.h"

namespace berth::testing {

// A llama of one layer with a vocabulary of bytes and a chat template.
inline GgufWriter tiny_gguf(const std::string& pre_tokenizer = "smollm") {
  GgufWriter file;
  file.text("general.architecture", "llama");
  for (const auto& [key, value] :
       {std::pair("embedding_length", 8u), std::pair("block_count", 1u),
        std::pair("context_length", 16u), std::pair("feed_forward_length", 8u),
        std::pair("attention.head_count", 2u)}) {
    file.u32(std::string("llama.") + key, value);
  }
  file.f32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  file.text("tokenizer.ggml.model", "gpt2");
  file.text("tokenizer.ggml.pre", pre_tokenizer);
  file.texts("tokenizer.ggml.tokens", {"a", "<|end|>"});
  file.u32("tokenizer.ggml.eos_token_id", 1);
  file.text("tokenizer.chat_template", "{{ messages }}");
  const std::vector<float> matrix(64), row(8), table(16);
  file.floats("token_embd.weight", {2, 8}, table);
  file.floats("output_norm.weight", {8}, row);
  for (const char* name : {"attn_norm", "ffn_norm"}) {
    file.floats(std::string("blk.0.") + name + ".weight", {8}, row);
  }
  for (const char* name :
       {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}) {
    file.floats(std::string("blk.0.") + name + ".weight", {8, 8}, matrix);
  }
  return file;
}

}  // namespace berth::testing
