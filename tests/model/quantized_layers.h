// Layers as the quantisation tools store them, written by hand from those tools' layouts.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "berth/model.h"
#include "berth/planner.h"
#include "tests/checkpoint/fixtures.h"

namespace berth::test {

// Gives the tensors that are stored for a linear layer `name` with a weight [out, in].
using Layer = std::function<std::vector<FakeTensor>(const std::string& name, std::uint64_t out,
                                                    std::uint64_t in)>;

Layer plain_layer(DType dtype);
Layer gptq_layer(unsigned bits, std::uint64_t group, bool with_order = true);
Layer awq_layer(std::uint64_t group);
Layer fp8_block_layer(DType scales);
Layer scaled_layer(DType weight, std::uint64_t scales_a_row_of,
                   DType scales);  // 0: one scale for all
Layer packed_layer(std::uint64_t group, bool zero_points, bool order);
Layer packed_rows_layer();  // a scale and a zero point for each row
Layer nvfp4_layer();
Layer modelopt_fp4_layer();
Layer bnb4_layer(bool nested);
Layer bnb8_layer();

// How many parameters a Llama of two layers has: hidden size 256, MLP 512, 4 heads of 64, 2 of them
// for keys, vocabulary 96.
inline constexpr std::uint64_t kSmallParameters =
    2 * 96 * 256 + 2 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 512 * 256 + 2 * 256) + 256;

// The config.json of that model. `quantization` is a JSON object, or empty.
std::string small_config(const std::string& quantization, const std::string& more = "");

// The tensors of that model. Each linear layer is stored as `pick(name)` says; the head is plain.
std::vector<FakeTensor> small_tensors(const std::function<Layer(const std::string&)>& pick);
std::vector<FakeTensor> small_tensors(const Layer& layer);

// Writes a checkpoint folder.
void write_checkpoint(const TempFolder& folder, const std::string& config,
                      const std::vector<FakeTensor>& tensors);

// Writes one line for each tensor: name, dtype, shape without ones, parameters, owner.
std::vector<std::string> outline(const ModelTree& tree);

// The message of the Error that open_model() throws for `path`; "" if it throws none.
std::string open_error(const std::filesystem::path& path);

}  // namespace berth::test
