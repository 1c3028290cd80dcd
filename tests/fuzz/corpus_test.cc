// Checks, for every file of the seed corpora, which rule it breaks, by the exact message.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <string>

#include "berth/checkpoint.h"
#include "berth/error.h"
#include "planner/checkpoint/gguf/header.h"
#include "planner/checkpoint/safetensors/header.h"
#include "planner/checkpoint/safetensors/shard_index.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

// Maps a file's name to the message that is expected, without the source's name; "" for a valid
// file.
using Expectations = std::map<std::string, std::string>;

const Expectations kSafetensors = {
    {"array", "the header does not begin with '{' (byte 8): this is not a safetensors file"},
    {"data_surplus",
     "the file has 71 bytes, the header accounts for 70, up to tensor 'a': 1 surplus bytes at the "
     "end"},
    {"data_truncated",
     "the file is truncated: the header accounts for 70 bytes, up to tensor 'a', the file has 69"},
    {"dtype_not_string", "tensor 'a': dtype is not a string (byte 14)"},
    {"dtype_unknown", "tensor 'a': unknown dtype 'I4' (byte 14)"},
    {"entry_key_twice", "tensor 'a': the key 'dtype' appears twice (byte 27)"},
    {"entry_no_dtype", "tensor 'a': the key 'dtype' is missing (byte 26)"},
    {"entry_no_offsets", "tensor 'a': the key 'data_offsets' is missing (byte 28)"},
    {"entry_no_shape", "tensor 'a': the key 'shape' is missing (byte 28)"},
    {"entry_not_object", "tensor 'a': the entry is not an object (byte 9)"},
    {"f4_odd", "tensor 'a': F4 needs a last dimension that is even (byte 41)"},
    {"f6_part_byte",
     "tensor 'a': the shape's size overflows or is not a whole number of bytes (byte 44)"},
    {"file_empty",
     "the file has 0 bytes, too few for a safetensors header: it is truncated or empty"},
    {"file_seven_bytes",
     "the file has 7 bytes, too few for a safetensors header: it is truncated or empty"},
    {"first_byte", "the header does not begin with '{' (byte 8): this is not a safetensors file"},
    {"header_empty", "the header does not begin with '{' (byte 8): this is not a safetensors file"},
    {"length_over_limit",
     "the header claims 100000001 bytes, the limit is 100000000 (byte 0): this is not a "
     "safetensors file"},
    {"length_past_end", "the header claims 3 bytes (byte 0), but the file has 10: it is truncated"},
    {"length_wraps",
     "the header claims 18446744073709551611 bytes, the limit is 100000000 (byte 0): this is not a "
     "safetensors file"},
    {"metadata_nested", "'__metadata__': the value of 'a' is not a string (byte 25)"},
    {"metadata_not_object", "'__metadata__' is not an object (byte 9)"},
    {"metadata_not_strings", "'__metadata__': the value of 'a' is not a string (byte 25)"},
    {"metadata_nul", "'__metadata__' is not an object (byte 9)"},
    {"metadata_null_twice", "the key '__metadata__' appears twice (byte 29)"},
    {"metadata_twice", "the key '__metadata__' appears twice (byte 27)"},
    {"name_empty", "a tensor has an empty name (byte 9)"},
    {"name_long", "tensor '" + std::string(80, 'n') + "..." + std::string(80, 'n') +
                      "': the name has 5000 bytes, the limit is 4096 (byte 9)"},
    {"name_twice",
     "tensor 'a': its data_offsets begin at 1, but the data begins at 0: the bytes between belong "
     "to no tensor"},
    {"name_twice_escaped",
     "tensor 'a': its data_offsets begin at 1, but the data begins at 0: the bytes between belong "
     "to no tensor"},
    {"not_json", "tensor 'a': the entry is not an object (byte 9)"},
    {"not_utf8", "the header is not valid UTF-8"},
    {"offsets_backwards", "tensor 'a': data_offsets end before they begin (byte 40)"},
    {"offsets_begin_late",
     "tensor 'a': its data_offsets begin at 4, but the data begins at 0: the bytes between belong "
     "to no tensor"},
    {"offsets_float", "tensor 'a': data_offsets[1] is not a non-negative 64-bit integer (byte 40)"},
    {"offsets_hole",
     "tensor 'b': its data_offsets begin at 12, but tensor 'a' ends at 8: the bytes between belong "
     "to no tensor"},
    {"offsets_negative",
     "tensor 'a': data_offsets[0] is not a non-negative 64-bit integer (byte 40)"},
    {"offsets_not_array", "tensor 'a': data_offsets is not an array (byte 40)"},
    {"offsets_one", "tensor 'a': data_offsets has fewer than two elements (byte 40)"},
    {"offsets_overlap",
     "tensor 'b': its data_offsets begin at 4, but tensor 'a' ends at 8: they overlap"},
    {"offsets_same",
     "tensor 'b': its data_offsets begin at 0, but tensor 'a' ends at 8: they overlap"},
    {"offsets_span", "tensor 'a': data_offsets span 7 bytes, dtype and shape need 8 (byte 40)"},
    {"offsets_three", "tensor 'a': data_offsets has more than two elements (byte 40)"},
    {"offsets_wrap",
     "tensor 'a': the shape's size overflows or is not a whole number of bytes (byte 58)"},
    {"ok_any_order", ""},
    {"ok_empty", ""},
    {"ok_entry_unknown_key", ""},
    {"ok_escaped_name", ""},
    {"ok_f4", ""},
    {"ok_metadata", ""},
    {"ok_metadata_key_twice", ""},
    {"ok_metadata_null", ""},
    {"ok_name_twice", ""},
    {"ok_padded", ""},
    {"ok_scalar", ""},
    {"ok_space_around", ""},
    {"ok_unaligned", ""},
    {"ok_zero_size", ""},
    {"only_space", "the header does not begin with '{' (byte 8): this is not a safetensors file"},
    {"padding_not_spaces", "the header does not end with '}' and padding spaces (byte 10)"},
    {"padding_nul", "the header does not end with '}' and padding spaces (byte 10)"},
    {"second_object", "the header goes on after its closing '}'"},
    {"shape_bits_wrap",
     "tensor 'a': the shape's size overflows or is not a whole number of bytes (byte 58)"},
    {"shape_exponent", "tensor 'a': shape[0] is not a non-negative 64-bit integer (byte 28)"},
    {"shape_float", "tensor 'a': shape[0] is not a non-negative 64-bit integer (byte 28)"},
    {"shape_negative", "tensor 'a': shape[0] is not a non-negative 64-bit integer (byte 28)"},
    {"shape_nested", "tensor 'a': shape[0] is not a non-negative 64-bit integer (byte 28)"},
    {"shape_not_array", "tensor 'a': shape is not an array (byte 28)"},
    {"shape_rank", "tensor 'a': more than 64 dimensions (byte 28)"},
    {"shape_string", "tensor 'a': shape[0] is not a non-negative 64-bit integer (byte 28)"},
    {"shape_too_big", "tensor 'a': shape[0] is not a non-negative 64-bit integer (byte 28)"},
    {"shape_wraps_to_zero",
     "tensor 'a': the shape's size overflows or is not a whole number of bytes (byte 60)"},
    {"unclosed",
     "the header is not valid JSON: The JSON document has an improper structure: missing or "
     "superfluous commas, braces, missing keys, etc. (byte 9)"},
};

const Expectations kShardIndex = {
    {"map_empty", "weight_map: names no tensor"},
    {"map_not_object", "weight_map: not an object"},
    {"no_map", "the key 'weight_map' is missing"},
    {"not_json",
     "not a valid JSON object: JSON document ended early in the middle of an object or array."},
    {"not_object", "not a valid JSON object: The JSON element does not have the requested type."},
    {"ok", ""},
    {"ok_folder", ""},
    {"ok_map_twice", ""},
    {"ok_tensor_twice", ""},
    {"shard_absolute",
     "weight_map: the shard name '/m.safetensors' of tensor 'a' leads out of the folder"},
    {"shard_bin",
     "weight_map: the shard name 'pytorch_model.bin' of tensor 'a' is not a .safetensors file"},
    {"shard_dots", "weight_map: the shard name '..' of tensor 'a' leads out of the folder"},
    {"shard_empty", "weight_map: the shard name '' of tensor 'a' is empty"},
    {"shard_not_string", "weight_map: the shard of tensor 'a' is not a string"},
    {"shard_nul", "weight_map: the shard name 'm\\x00.safetensors' of tensor 'a' holds a NUL byte"},
    {"shard_parent",
     "weight_map: the shard name '../m.safetensors' of tensor 'a' leads out of the folder"},
    {"shard_up_inside",
     "weight_map: the shard name 'sub/../../m.safetensors' of tensor 'a' leads out of the folder"},
    {"trailing", "the file goes on after its closing '}'"},
};

const Expectations kGguf = {
    {"alignment_float", "general.alignment: not a non-negative integer"},
    {"alignment_huge", "general.alignment: not a non-negative integer"},
    {"alignment_odd", "general.alignment: 24 is not a power of two (at most 2^30)"},
    {"alignment_zero", "general.alignment: 0 is not a power of two (at most 2^30)"},
    {"array_count_wraps",
     "the file is truncated: it ends within 'a': an array of 2305843009213693952 elements (byte "
     "49)"},
    {"array_nested", "'a': an array of arrays is not supported (byte 37)"},
    {"array_of_strings_count",
     "the file is truncated: it ends within 'a': an array of 1152921504606846976 elements (byte "
     "49)"},
    {"array_of_strings_past_end", "the file is truncated: it ends within 'a' (byte 57)"},
    {"array_type", "'a': unknown value type 99 (byte 37)"},
    {"big_endian", "is a big-endian GGUF file; only little-endian ones are read (byte 4)"},
    {"data_truncated",
     "the file is truncated: tensor 'a' ends 8 bytes into the data, the file has 7 there"},
    {"file_empty", "the file has 0 bytes, too few for a GGUF header: it is truncated or empty"},
    {"file_short", "the file has 23 bytes, too few for a GGUF header: it is truncated or empty"},
    {"key_empty", "a key of 0 bytes (1 to 65535 are allowed) (byte 24)"},
    {"key_length_wraps", "a key of 18446744073709551608 bytes (1 to 65535 are allowed) (byte 24)"},
    {"key_past_end", "the file is truncated: it ends within a key (byte 32)"},
    {"key_twice", "the key 'a' appears twice (byte 49)"},
    {"magic", "does not begin with 'GGUF': this is not a GGUF file (byte 0)"},
    {"name_empty", "a tensor's name has 0 bytes, the limit is 4096 (byte 24)"},
    {"name_length_wraps",
     "a tensor's name has 18446744073709551615 bytes, the limit is 4096 (byte 24)"},
    {"name_twice", "tensor 'a' appears twice"},
    {"no_data",
     "the file is truncated: tensor 'a' ends 8 bytes into the data, the file has 0 there"},
    {"offset_and_size_wrap", "tensor 'a': offset and size overflow (byte 49)"},
    {"offset_past_end",
     "the file is truncated: tensor 'a' ends 1099511627784 bytes into the data, the file has 8 "
     "there"},
    {"offset_unaligned", "tensor 'a': its offset 8 is not a multiple of 32 (byte 49)"},
    {"offset_wraps",
     "the file is truncated: tensor 'a' ends 18446744073709551592 bytes into the data, the file "
     "has 8 there"},
    {"ok_alignment", ""},
    {"ok_any_order", ""},
    {"ok_empty", ""},
    {"ok_hole", ""},
    {"ok_q2_k", ""},
    {"ok_tensors", ""},
    {"ok_values", ""},
    {"ok_version_2", ""},
    {"ok_zero_size", ""},
    {"overlap", "tensors 'a' and 'b' overlap (byte 128)"},
    {"rank", "tensor 'a': 5 dimensions, the limit is 4 (byte 33)"},
    {"rank_huge", "tensor 'a': 4294967295 dimensions, the limit is 4 (byte 33)"},
    {"row_cuts_block", "tensor 'a': Q4_0 needs rows of a multiple of 32 elements (byte 53)"},
    {"same_place", "tensors 'a' and 'b' overlap (byte 96)"},
    {"scalar_of_blocks", "tensor 'a': Q4_0 needs rows of a multiple of 32 elements (byte 37)"},
    {"shape_wraps", "tensor 'a': the shape's size overflows (byte 53)"},
    {"shape_wraps_by_type", "tensor 'a': the shape's size overflows (byte 45)"},
    {"string_length_wraps", "the file is truncated: it ends within 'a' (byte 45)"},
    {"string_past_end", "the file is truncated: it ends within 'a' (byte 45)"},
    {"tensor_count", "claims 18446744073709551615 tensors, more than it can hold (byte 8)"},
    {"tensor_count_one_more", "claims 2 tensors, more than it can hold (byte 8)"},
    {"type_removed",
     "tensor 'a': type Q4_2 has no size that is known: the file is newer than Berth, or its type "
     "was taken out of the format (byte 45)"},
    {"type_unknown",
     "tensor 'a': type 4294967295 has no size that is known: the file is newer than Berth, or its "
     "type was taken out of the format (byte 45)"},
    {"value_count", "claims 2305843009213693952 metadata values, more than it can hold (byte 16)"},
    {"value_count_one_more", "claims 2 metadata values, more than it can hold (byte 16)"},
    {"value_truncated", "the file is truncated: it ends within 'a' (byte 37)"},
    {"value_type", "'a': unknown value type 13 (byte 33)"},
    {"version_1", "GGUF version 1 is not supported (2 and 3 are; convert the file again) (byte 4)"},
    {"version_4", "GGUF version 4 is not supported (2 and 3 are; convert the file again) (byte 4)"},
};

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The message that `parse` throws for the file's bytes; "" if it throws none.
std::string answer(const fs::path& path, const std::function<void(const std::string&)>& parse) {
  try {
    parse(slurp(path));
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

void check_corpus(const std::string& folder, const Expectations& expected,
                  const std::function<void(const std::string&)>& parse) {
  std::set<std::string> seen;
  for (const auto& entry :
       fs::directory_iterator(fs::path(BERTH_SOURCE_DIR) / "tests/fuzz/corpus" / folder)) {
    const std::string name = entry.path().filename().string();
    seen.insert(name);
    const auto rule = expected.find(name);
    ASSERT_NE(rule, expected.end()) << folder << "/" << name << " has no expectation";
    const std::string message = rule->second.empty() ? "" : "f: " + rule->second;
    EXPECT_EQ(answer(entry.path(), parse), message) << folder << "/" << name;
  }
  EXPECT_EQ(seen.size(), expected.size()) << "files are missing from " << folder;
}

TEST(Corpus, EachSafetensorsFileTripsItsRule) {
  check_corpus("safetensors", kSafetensors, [](const std::string& bytes) {
    std::vector<TensorInfo> tensors;
    parse_safetensors_header(bytes, bytes.size(), 0, "f", {}, tensors);
  });
}

TEST(Corpus, EachIndexFileTripsItsRule) {
  check_corpus("shard_index", kShardIndex,
               [](const std::string& bytes) { parse_shard_index(bytes, "f"); });
}

TEST(Corpus, EachGgufFileTripsItsRule) {
  check_corpus("gguf", kGguf, [](const std::string& bytes) {
    parse_gguf_header(bytes.size(), "f", {}, [&](std::string& head, std::uint64_t wanted) {
      ASSERT_LE(wanted, bytes.size());
      head = bytes.substr(0, wanted);
    });
  });
}

}  // namespace
}  // namespace berth
