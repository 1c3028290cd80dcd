// Text to value, for flags and deployment files alike.
//
// Each function throws an Error that says what was wrong with the text and what would be right,
// without saying where it stood: the caller knows the flag, or the file and line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "cli/options/settings.h"

namespace berth {

Policy policy_from(std::string_view text);
DTypeChoice dtype_from(std::string_view text);  // auto, float32, float16, bfloat16
// The same, and what a plan can be made for besides: fp8, q4_k_m, ...
DTypeChoice planned_dtype_from(std::string_view text);
DType kv_dtype_from(std::string_view text);  // any name of planner/plan/kv_cache.h
CpuMemory cpu_memory_from(std::string_view text);
IoEngine io_engine_from(std::string_view text);
Kernels kernels_from(std::string_view text);
ActivationBits activations_from(std::string_view text);

// A size of at least what a load needs to move anything, 256 KiB.
std::uint64_t staging_from(std::string_view text);

// "0", "cpu", "cpu:1", "disk"; "cuda:1" and "gpu 1" become "1", "cpu:0" becomes "cpu".
std::string device_from(std::string_view text);
std::vector<std::string> devices_from(std::string_view text);  // "1,cpu"

// A file; if there is none of that name, what transformers takes in place of a map: "auto",
// "balanced", "balanced_low_0", "sequential", "cuda:1", "cpu".
DeviceMapChoice device_map_from(std::string_view text);

// "0=24GiB,cpu=64GiB", order kept; a device named twice is an error.
std::vector<Budget> budgets_from(std::string_view text);
// "0=1GiB,1=2GiB", or one size for every GPU.
std::vector<Reserve> reserve_from(std::string_view text);

// "2=-1,0=1": levels of GPUs, order kept; a device named twice is an error, and so is the CPU.
std::vector<Priority> priority_from(std::string_view text);
// A level by itself: a whole number, perhaps negative, of at most kMaxLevel.
inline constexpr int kMaxLevel = 1000;
int level_from(std::string_view text);
// The name of a GPU, for what only GPUs have.
std::string gpu_from(std::string_view text);

// "LlamaMLP,model.layers.?": globs over names of modules and classes.
std::vector<std::string> globs_from(std::string_view text);
std::string glob_from(std::string_view text);  // one, not empty, its brackets closed
// "model.layers.2?.*=cpu": a glob over names of modules and tensors, and where they go.
Override override_from(std::string_view text);

// "2x4090,h100": machines by name and by file; each once, and at least one.
std::vector<std::filesystem::path> machines_from(std::string_view text);
// "bfloat16,fp8,q4_k_m": names of precisions, or their aliases; each once, and at least one.
std::vector<const Precision*> precisions_from(std::string_view text);
const Precision* precision_from(std::string_view text);  // one of them
// The same checks for lists that come from elsewhere. `text` is what the user wrote.
void add_machine(std::filesystem::path machine, std::vector<std::filesystem::path>& machines);
void add_precision(const Precision* precision, std::vector<const Precision*>& precisions);
// A rate: "20tok/s", or 20.
double tokens_per_second_from(std::string_view text);

// A count of tokens or sequences, at most kMaxCount: "4096", or "128k" and "1m", which count by
// 1024 as lengths of contexts do, in either case of letters.
inline constexpr std::uint64_t kMaxCount = 1'000'000'000;
std::uint64_t count_from(std::string_view text);
std::uint64_t positive_from(std::string_view text);  // the same, but not 0

// Ids of a prompt: "504,3575,282".
std::vector<std::int64_t> ids_from(std::string_view text);

// A time that measuring may take, in seconds: 0.1 to 3600.
double seconds_from(std::string_view text);

// A text and a path as they are. An empty path is an error where the file is opened.
std::string text_from(std::string_view text);
std::filesystem::path path_from(std::string_view text);

}  // namespace berth
