#include "tests/cli/berth_process.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>

namespace berth::testing {
namespace {

std::string content(const std::filesystem::path& file) {
  std::ostringstream out;
  out << std::ifstream(file, std::ios::binary).rdbuf();
  return out.str();
}

struct Tensor {
  std::string name;
  std::vector<std::size_t> shape;
};

std::vector<Tensor> tiny_tensors() {
  std::vector<Tensor> tensors{{"model.embed_tokens.weight", {32, 8}}};
  for (const std::string layer : {"0", "1"}) {
    const std::string at = "model.layers." + layer + ".";
    tensors.push_back({at + "self_attn.q_proj.weight", {8, 8}});
    tensors.push_back({at + "self_attn.k_proj.weight", {4, 8}});
    tensors.push_back({at + "self_attn.v_proj.weight", {4, 8}});
    tensors.push_back({at + "self_attn.o_proj.weight", {8, 8}});
    tensors.push_back({at + "mlp.gate_proj.weight", {16, 8}});
    tensors.push_back({at + "mlp.up_proj.weight", {16, 8}});
    tensors.push_back({at + "mlp.down_proj.weight", {8, 16}});
    tensors.push_back({at + "input_layernorm.weight", {8}});
    tensors.push_back({at + "post_attention_layernorm.weight", {8}});
  }
  tensors.push_back({"model.norm.weight", {8}});
  tensors.push_back({"lm_head.weight", {32, 8}});
  return tensors;
}

std::size_t bytes_of(const Tensor& tensor) {
  std::size_t bytes = 4;
  for (const std::size_t size : tensor.shape) bytes *= size;
  return bytes;
}

Answer run(const std::vector<std::string>& arguments, const std::string& input,
           std::optional<std::uint64_t> most_bytes) {
  const TemporaryFolder folder;
  const std::string out = folder.path() / "out", talk = folder.path() / "talk";
  const std::string in = folder.write("in", input);
  std::vector<std::string> owned{BERTH_BINARY_DIR "/berth"};
  owned.insert(owned.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& argument : owned) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("BERTH_MACHINE_FILE", "", /*overwrite=*/0);  // no calibration of this machine
    if (!std::freopen(in.c_str(), "r", stdin) || !std::freopen(out.c_str(), "w", stdout) ||
        !std::freopen(talk.c_str(), "w", stderr)) {
      ::_exit(126);
    }
    const rlimit limit{most_bytes.value_or(RLIM_INFINITY), RLIM_INFINITY};
    if (most_bytes && ::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(126);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  Answer answer;
  answer.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  answer.out = content(out);
  answer.talk = content(talk);
  return answer;
}

}  // namespace

Answer berth(const std::vector<std::string>& arguments, const std::string& input) {
  return run(arguments, input, std::nullopt);
}

Answer berth_within(std::uint64_t bytes, const std::vector<std::string>& arguments) {
  return run(arguments, {}, bytes);
}

std::string safetensors(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + std::string(data_bytes, '\0');
}

std::string tiny_header() {
  std::ostringstream out;
  std::size_t offset = 0;
  out << "{";
  for (const Tensor& tensor : tiny_tensors()) {
    out << (offset > 0 ? "," : "") << "\"" << tensor.name << "\":{\"dtype\":\"F32\",\"shape\":[";
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      out << (i > 0 ? "," : "") << tensor.shape[i];
    }
    out << "],\"data_offsets\":[" << offset << "," << offset + bytes_of(tensor) << "]}";
    offset += bytes_of(tensor);
  }
  out << "}";
  std::string header = out.str();
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return header;
}

std::size_t tiny_data_bytes() {
  std::size_t bytes = 0;
  for (const Tensor& tensor : tiny_tensors()) bytes += bytes_of(tensor);
  return bytes;
}

std::string tiny_config() {
  return R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8,
 "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
 "num_key_value_heads": 1, "vocab_size": 32, "max_position_embeddings": 64,
 "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "eos_token_id": 2,
 "tie_word_embeddings": false, "torch_dtype": "float32"})";
}

std::filesystem::path tiny_llama(const TemporaryFolder& folder, const std::string& name) {
  folder.write(name + "/config.json", tiny_config());
  folder.write(name + "/model.safetensors", safetensors(tiny_header(), tiny_data_bytes()));
  return folder.path() / name;
}

std::filesystem::path machine_file(const TemporaryFolder& folder, const std::string& gpu,
                                   const std::string& cpu) {
  return folder.write("machine-" + gpu + "-" + cpu + ".yaml",
                      "devices:\n"
                      "  - {name: \"0\", kind: cuda, capacity: " +
                          gpu +
                          "}\n"
                          "  - {name: cpu, kind: cpu, capacity: " +
                          cpu +
                          "}\n"
                          "  - {name: disk, kind: disk, capacity: 1TB}\n");
}

}  // namespace berth::testing
