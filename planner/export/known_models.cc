#include "planner/export/known_models.h"

#include <algorithm>
#include <iterator>
#include <string_view>

namespace berth {
namespace {

struct Row {
  std::string_view model_type;
  std::string_view error;
  std::string_view note;
  bool one_gpu = false;
};

constexpr Row kVllm[] = {
    {"t5", "it has no t5 models, and its transformers backend takes no encoder-decoders", "", true},
    {"mllama", "it has had no mllama models since version 0.10.2", "", true},
    {"bart", "", "bart models need its plugin (github.com/vllm-project/bart-plugin)", true},
    {"whisper", "", "", true},
    {"bert", "", "", true},
    {"xlm-roberta", "", "", true},
    {"modernbert", "", "", true},
};

constexpr Row kLlamaCpp[] = {
    {"whisper", "it has no whisper models; whisper.cpp runs them", ""},
    {"mllama", "it has no mllama models: its converter makes no GGUF of one", ""},
    {"bart", "it has no bart models: its converter makes no GGUF of one", ""},
    {"opt", "it has no opt models: its converter makes no GGUF of one", ""},
    {"t5", "", "", true},  // layer i of encoder and decoder are on one device
};

template <std::size_t kSize>
KnownModel look_up(const Row (&rows)[kSize], std::string_view model_type) {
  const auto row = std::find_if(std::begin(rows), std::end(rows), [&](const Row& candidate) {
    return candidate.model_type == model_type;
  });
  if (row == std::end(rows)) return {};
  return {std::string(row->error), std::string(row->note), row->one_gpu};
}

}  // namespace

KnownModel vllm_knows(const ModelTree& tree) { return look_up(kVllm, tree.model_type); }
KnownModel llama_cpp_knows(const ModelTree& tree) { return look_up(kLlamaCpp, tree.model_type); }

}  // namespace berth
