// Every file of the PyTorch corpus. Valid files are compared with what torch.load gives, the others
// with the message of the exact rule that each breaks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include "berth/error.h"
#include "planner/checkpoint/torch/file.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

const fs::path kCorpus = fs::path(BERTH_SOURCE_DIR) / "tests/fuzz/corpus";

// Maps a file's name to the message that is expected, without the source's name. Valid files are
// not in it.
const std::map<std::string, std::string> kBroken = {
    {"append_text", "m/data.pkl: opcode APPEND is not applied to a list (byte 49)"},
    {"big_endian",
     "zip entry 'm/byteorder': the byte order is 'big'; only little-endian files are read: load it "
     "with torch and save it again (byte 218)"},
    {"build_tensor", "m/data.pkl: opcode BUILD is not applied to a dict (byte 176)"},
    {"call_class",
     "m/data.pkl: the pickle calls a class that may only be named: refused (byte 63)"},
    {"call_text",
     "m/data.pkl: opcode REDUCE does not call a known function with a tuple (byte 49)"},
    {"contains_itself",
     "m/data.pkl: the file holds no state dict: no dict in it maps names to tensors (byte 42)"},
    {"dict_copied", "m/data.pkl: the pickle copies too many values (byte 15621)"},
    {"dict_of_texts", "m/data.pkl: a dict is made of something that is not pairs (byte 74)"},
    {"file_empty",
     "not a file of torch.save: neither a zip archive nor a pickle of its older format (it is "
     "empty)"},
    {"file_plain_pickle",
     "not a file of torch.save: neither a zip archive nor a pickle of its older format (it begins "
     "with 80 02 7d 71)"},
    {"file_pointer",
     "a Git LFS pointer, not the file itself: fetch it, for example with git lfs pull"},
    {"file_safetensors",
     "not a file of torch.save: neither a zip archive nor a pickle of its older format (it begins "
     "with 02 00 00 00)"},
    {"file_web_page",
     "a web page (HTML), not the file itself: the server answered with an error or a login page "
     "when it was downloaded; fetch it again"},
    {"global_builtin",
     "m/data.pkl: the pickle asks for 'builtins.eval', which is refused: nothing is executed, and "
     "only what rebuilds tensors is read (save the state dict alone to leave the rest out) (byte "
     "58)"},
    {"global_complex128",
     "m/data.pkl: tensor 'a': is of a type that is not read: complex128 (byte 182)"},
    {"global_load",
     "m/data.pkl: the pickle asks for 'torch.storage._load_from_bytes', which is refused: nothing "
     "is executed, and only what rebuilds tensors is read (save the state dict alone to leave the "
     "rest out) (byte 42)"},
    {"global_no_line", "m/data.pkl: the pickle is truncated: it ends within an opcode (byte 42)"},
    {"global_numpy",
     "m/data.pkl: the pickle asks for 'numpy.core.multiarray._reconstruct', which is refused: "
     "nothing is executed, and only what rebuilds tensors is read (save the state dict alone to "
     "leave the rest out) (byte 42)"},
    {"global_script",
     "m/data.pkl: the pickle asks for '__torch__.net.Net', which is refused: nothing is executed, "
     "and only what rebuilds tensors is read (save the state dict alone to leave the rest out) "
     "(byte 42)"},
    {"global_system",
     "m/data.pkl: the pickle asks for 'os.system', which is refused: nothing is executed, and only "
     "what rebuilds tensors is read (save the state dict alone to leave the rest out) (byte 42)"},
    {"id_class",
     "m/data.pkl: a persistent id is not ('storage', class, key, location, elements): the class is "
     "not that of a storage (byte 84)"},
    {"id_huge",
     "m/data.pkl: a persistent id is not ('storage', class, key, location, elements): the number "
     "of elements is not a count (byte 142)"},
    {"id_key",
     "m/data.pkl: a persistent id is not ('storage', class, key, location, elements): the key is "
     "not a string (byte 88)"},
    {"id_module",
     "m/data.pkl: a persistent id is not ('storage', class, key, location, elements): it does not "
     "begin with 'storage' (byte 59)"},
    {"id_negative",
     "m/data.pkl: a persistent id is not ('storage', class, key, location, elements): the number "
     "of elements is not a count (byte 137)"},
    {"id_short",
     "m/data.pkl: a persistent id is not ('storage', class, key, location, elements): it has 1 "
     "elements (byte 55)"},
    {"id_text",
     "m/data.pkl: a persistent id is not ('storage', class, key, location, elements): it is not "
     "a tuple (byte 48)"},
    {"legacy_big_endian",
     "the byte order is big-endian; only little-endian files are read (byte 31)"},
    {"legacy_conjugated",
     "tensor 'a': is a view that is conjugated, whose values are not those of its storage: write "
     "it with .resolve_conj() and save it again (byte 195)"},
    {"legacy_count", "storage '0' has 3 elements, the pickle says 2 (byte 197)"},
    {"legacy_count_cut",
     "the file is truncated: it ends within storage '0', which begins at byte 197"},
    {"legacy_count_huge",
     "storage '0' has 18446744073709551615 elements, the pickle says 2 (byte 197)"},
    {"legacy_cut", "the pickle is truncated: it ends within an opcode (byte 57)"},
    {"legacy_data_cut",
     "the file is truncated: it ends within storage '0', which begins at byte 205"},
    {"legacy_key_missing", "tensor 'a': its storage '0' is not in the file (byte 182)"},
    {"legacy_key_twice", "storage '0' appears twice (byte 200)"},
    {"legacy_key_unknown", "the list of storages names an unknown one (byte 194)"},
    {"legacy_keys", "the list of storages is not a list (byte 187)"},
    {"legacy_part_far",
     "a persistent id is not ('storage', class, key, location, elements): its part is not within "
     "the storage (byte 153)"},
    {"legacy_part_odd",
     "a persistent id is not ('storage', class, key, location, elements): its part is not (key, "
     "offset, elements) (byte 147)"},
    {"legacy_part_short",
     "tensor 'a': its 8 bytes at element 0 run past storage '0', which has 4 (byte 193)"},
    {"legacy_protocol_1",
     "the pickle protocol of this file of torch.save, 0 or 1, is not supported (2 to 5 are): save "
     "it again with another pickle_protocol"},
    {"legacy_protocol_6",
     "the pickle protocol of this file of torch.save, 6, is not supported (2 to 5 are): save it "
     "again with another pickle_protocol"},
    {"legacy_system", "the system pickle is not a dict (byte 25)"},
    {"legacy_version", "the version of the file is not 1001 (byte 17)"},
    {"long_long", "m/data.pkl: the pickle is truncated: it ends within an opcode (byte 42)"},
    {"mark_guards",
     "m/data.pkl: the pickle takes a value from its stack, but none is left (byte 44)"},
    {"mark_left",
     "m/data.pkl: the pickle ends with 1 values and 1 marks on its stack, not with one value (byte "
     "44)"},
    {"mark_missing", "m/data.pkl: the pickle looks for a mark that is not on its stack (byte 42)"},
    {"memo_far", "m/data.pkl: the pickle keeps a value as number 2147483647, after 0 (byte 43)"},
    {"memo_missing", "m/data.pkl: the pickle uses value 5, which it never kept (byte 42)"},
    {"memo_nothing", "m/data.pkl: the pickle keeps a value that is not on its stack (byte 42)"},
    {"name_empty", "m/data.pkl: a tensor has an empty name (byte 49)"},
    {"name_long",
     "m/data.pkl: tensor "
     "'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn..."
     "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn': the name "
     "has 5000 bytes, the limit is 4096 (byte 49)"},
    {"name_number_twice", "m/data.pkl: tensor '1': the name appears twice (byte 176)"},
    {"name_tuple", "m/data.pkl: a tensor's name is neither a string nor a number (byte 170)"},
    {"name_twice", "m/data.pkl: tensor 'a': the name appears twice (byte 180)"},
    {"nested_deep",
     "m/data.pkl: opcode LIST is refused: only what rebuilds tensors is read, nothing is executed "
     "(byte 5042)"},
    {"nested_tuples",
     "m/data.pkl: the file holds no state dict: no dict in it maps names to tensors (byte 3406)"},
    {"no_stop", "m/data.pkl: the pickle is truncated: it ends without a STOP (byte 43)"},
    {"opcode_bytes",
     "m/data.pkl: opcode SHORT_BINBYTES is refused: only what rebuilds tensors is read, nothing is "
     "executed (byte 42)"},
    {"opcode_ext",
     "m/data.pkl: opcode EXT1 is refused: only what rebuilds tensors is read, nothing is executed "
     "(byte 42)"},
    {"opcode_inst",
     "m/data.pkl: opcode INST is refused: only what rebuilds tensors is read, nothing is executed "
     "(byte 43)"},
    {"opcode_newobj",
     "m/data.pkl: the pickle calls a class that may only be named: refused (byte 57)"},
    {"opcode_obj",
     "m/data.pkl: opcode OBJ is refused: only what rebuilds tensors is read, nothing is executed "
     "(byte 43)"},
    {"opcode_text_int",
     "m/data.pkl: opcode INT is refused: only what rebuilds tensors is read, nothing is executed "
     "(byte 40)"},
    {"opcode_unknown",
     "m/data.pkl: opcode 0xff is refused: only what rebuilds tensors is read, nothing is executed "
     "(byte 42)"},
    {"parameter_of_nothing",
     "m/data.pkl: _rebuild_parameter is not called with a tensor (byte 77)"},
    {"pickle_empty", "m/data.pkl: the pickle is truncated: it ends without a STOP (byte 40)"},
    {"protocol", "m/data.pkl: the pickle has protocol 9, which is not supported (byte 40)"},
    {"root_both",
     "m/data.pkl: several dicts of the file could be the state dict ('model', 'state_dict'); name "
     "the one that you mean, as in FILE@model (byte 42)"},
    {"root_list",
     "m/data.pkl: the file holds no state dict: no dict in it maps names to tensors (byte 42)"},
    {"root_nothing",
     "m/data.pkl: the file holds no state dict: no dict in it maps names to tensors (byte 42)"},
    {"root_several",
     "m/data.pkl: several dicts of the file could be the state dict ('generator', 'critic'); name "
     "the one that you mean, as in FILE@generator (byte 42)"},
    {"root_tensor",
     "m/data.pkl: the file holds one tensor, not a state dict with names (byte 166)"},
    {"setitem_list", "m/data.pkl: opcode SETITEM is not applied to a dict (byte 45)"},
    {"setitems_odd", "m/data.pkl: opcode SETITEMS has a key without a value (byte 45)"},
    {"stack_empty",
     "m/data.pkl: the pickle ends with 0 values and 0 marks on its stack, not with one value (byte "
     "42)"},
    {"stack_two",
     "m/data.pkl: the pickle ends with 2 values and 0 marks on its stack, not with one value (byte "
     "44)"},
    {"stack_underflow",
     "m/data.pkl: the pickle takes a value from its stack, but none is left (byte 42)"},
    {"storage_missing", "m/data.pkl: tensor 'a': its storage '7' is not in the archive (byte 174)"},
    {"storage_short",
     "m/data.pkl: tensor 'a': storage '0' is said to have 8 bytes, the file holds 6 of it (byte "
     "174)"},
    {"tensor_arguments", "m/data.pkl: a tensor is rebuilt from 1 arguments (byte 77)"},
    {"tensor_both_bits",
     "archive/data.pkl: tensor 'z': is a view that is negated and conjugated, whose values are not "
     "those of its storage: write it with .resolve_neg().resolve_conj() and save it again (byte "
     "256)"},
    {"tensor_complex128",
     "archive/data.pkl: tensor 'w': is of a type that is not read: complex128 (byte 229)"},
    {"tensor_complex32",
     "archive/data.pkl: tensor 'w': is of a type that is not read: complex32 (byte 250)"},
    {"tensor_conjugated",
     "archive/data.pkl: tensor 'z': is a view that is conjugated, whose values are not those of "
     "its storage: write it with .resolve_conj() and save it again (byte 244)"},
    {"tensor_dtype", "m/data.pkl: a tensor's dtype is not a dtype (byte 185)"},
    {"tensor_expanded_far", "m/data.pkl: tensor 'a': the shape's size overflows (byte 190)"},
    {"tensor_from_type",
     "m/data.pkl: _rebuild_from_type_v2 is called for something that is not a plain tensor (byte "
     "85)"},
    {"tensor_meta",
     "archive/data.pkl: tensor 'w': is a meta tensor, which has no values (byte 157)"},
    {"tensor_metadata", "m/data.pkl: tensor 'a': its metadata is not a dict (byte 175)"},
    {"tensor_metadata_key",
     "m/data.pkl: tensor 'a': a key of its metadata is not a string (byte 179)"},
    {"tensor_metadata_unknown",
     "m/data.pkl: tensor 'a': its metadata 'zeroed' is unknown (byte 189)"},
    {"tensor_negated",
     "archive/data.pkl: tensor 'w': is a view that is negated, whose values are not those of its "
     "storage: write it with .resolve_neg() and save it again (byte 236)"},
    {"tensor_negated_v3",
     "m/data.pkl: tensor 'a': is a view that is negated, whose values are not those of its "
     "storage: write it with .resolve_neg() and save it again (byte 211)"},
    {"tensor_no_storage",
     "m/data.pkl: a tensor is rebuilt from something that is not a storage (byte 124)"},
    {"tensor_offset_negative", "m/data.pkl: a tensor's storage offset is not a count (byte 177)"},
    {"tensor_offset_wraps",
     "m/data.pkl: tensor 'a': its 8 bytes at element 4611686018427387904 run past storage '0', "
     "which has 8 (byte 182)"},
    {"tensor_past_storage",
     "m/data.pkl: tensor 'a': its 8 bytes at element 1 run past storage '0', which has 8 (byte "
     "174)"},
    {"tensor_quantized",
     "archive/data.pkl: tensor 'w': is a quantised tensor of torch: write it with .dequantize() "
     "and save it again (byte 260)"},
    {"tensor_rank", "m/data.pkl: tensor 'a': has 65 dimensions and 65 strides (byte 430)"},
    {"tensor_shape_bits",
     "m/data.pkl: tensor 'a': the shape's size overflows or is not a whole number of bytes (byte "
     "182)"},
    {"tensor_shape_negative", "m/data.pkl: tensor 'a': shape[0] is not a count (byte 177)"},
    {"tensor_shape_none", "m/data.pkl: a tensor's shape or strides are not a tuple (byte 160)"},
    {"tensor_shape_wraps", "m/data.pkl: tensor 'a': the shape's size overflows (byte 193)"},
    {"tensor_sparse",
     "archive/data.pkl: tensor 'w': is sparse: write it with .to_dense() and save it again (byte "
     "434)"},
    {"tensor_stride_negative", "m/data.pkl: tensor 'a': its stride 0 is not a count (byte 177)"},
    {"tensor_stride_wraps",
     "m/data.pkl: tensor 'a': its 24 bytes at element 0 run past storage '0', which has 8 (byte "
     "186)"},
    {"tensor_strided_past_storage",
     "m/data.pkl: tensor 'a': its 16 bytes at element 0 run past storage '0', which has 8 (byte "
     "178)"},
    {"tensor_strides_fewer", "m/data.pkl: tensor 'a': has 2 dimensions and 1 strides (byte 176)"},
    {"tensor_untyped",
     "m/data.pkl: a tensor without a dtype is rebuilt from an untyped storage (byte 184)"},
    {"text_long", "m/data.pkl: the pickle is truncated: it ends within an opcode (byte 42)"},
    {"text_long_8", "m/data.pkl: the pickle is truncated: it ends within an opcode (byte 42)"},
    {"zip64_at",
     "the zip archive's ZIP64 record is said to be at byte 1099511627776, where it cannot be (byte "
     "589)"},
    {"zip64_directory_big",
     "the zip directory is said to have 1152921504606846976 entries in 222 bytes (byte 609)"},
    {"zip64_mark", "the zip archive's ZIP64 record is damaged (byte 533)"},
    {"zip64_missing", "zip entry 'm/data/0': its ZIP64 field is missing or too short (byte 479)"},
    {"zip64_wraps",
     "the zip directory is said to have 16 bytes at byte 18446744073709551608, past its own end "
     "(byte 609)"},
    {"zip_bomb",
     "zip entry 'm/data/0': is compressed (method 8); only stored entries can be read in place: "
     "save it again with torch.save (byte 265)"},
    {"zip_compressed_pickle",
     "zip entry 'm/data.pkl': is compressed (method 8); only stored entries can be read in place: "
     "save it again with torch.save (byte 0)"},
    {"zip_compressed_storage",
     "zip entry 'm/data/0': is compressed (method 8); only stored entries can be read in place: "
     "save it again with torch.save (byte 265)"},
    {"zip_count", "the zip directory is said to have 60000 entries in 222 bytes (byte 533)"},
    {"zip_cut",
     "the zip archive is truncated: its directory, which ends it, is missing (byte 525)"},
    {"zip_directory_far",
     "the zip directory is said to have 222 bytes at byte 1073741824, past its own end (byte 533)"},
    {"zip_directory_wrong", "entry 0 of the zip directory is damaged (byte 1)"},
    {"zip_encrypted", "zip entry 'm/data/0': is encrypted (byte 265)"},
    {"zip_entry_runs_out", "entry 3 of the zip directory runs past its end (byte 479)"},
    {"zip_extra_runs_out",
     "zip entry 'm/data/0': its ZIP64 field is missing or too short (byte 491)"},
    {"zip_header_far",
     "zip entry 'm/data/0': its header is said to be past the data (byte 2147483647)"},
    {"zip_header_shared",
     "zip entry 'm/data/1': its header has another name than the directory (byte 0)"},
    {"zip_header_wrong", "zip entry 'm/data/0': there is no header where it should be (byte 1)"},
    {"zip_local_method",
     "zip entry 'm/data/0': its header has another method than the directory (byte 265)"},
    {"zip_local_name",
     "zip entry 'm/data/0': its header has another name than the directory (byte 265)"},
    {"zip_local_size", "zip entry 'm/data/0': its header says 4 bytes, the directory 8 (byte 265)"},
    {"zip_name_long",
     "the name of zip entry "
     "'m/"
     "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn..."
     "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn' has 5002 "
     "bytes, the limit is 4096 (byte 5032)"},
    {"zip_other", "a zip archive, but not one of PyTorch's: it holds no NAME/data.pkl"},
    {"zip_overlap", "zip entry 'm/data/1': overlaps entry 'm/data/0' (byte 442)"},
    {"zip_parts", "the zip archive is split over several files (byte 533)"},
    {"zip_past_end", "zip entry 'm/data/0': its 1048576 bytes run past the data (byte 265)"},
    {"zip_sizes_differ",
     "zip entry 'm/data/0': is stored, but said to have 8 bytes packed and 80 unpacked (byte 265)"},
    {"zip_torchscript",
     "a TorchScript archive, which holds a program: save the state dict of the module with "
     "torch.save"},
    {"zip_twice", "zip entry 'm/data/0' appears twice (byte 579)"},
    {"zip_two_roots", "the archive holds both 'm/data.pkl' and 'n/data.pkl'"},
};

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

Checkpoint read(const std::string& bytes) {
  const ByteSource source{"f", bytes.size(),
                          [&](std::uint64_t offset, char* out, std::uint64_t count) {
                            if (offset > bytes.size() || count > bytes.size() - offset) {
                              throw Error("f: a read past the end was asked for");
                            }
                            std::memcpy(out, bytes.data() + offset, count);
                          }};
  Checkpoint checkpoint;
  read_torch_file(source, 0, "", {}, checkpoint);
  return checkpoint;
}

// The elements of a tensor in its own order, taken one by one.
std::string gather(const Checkpoint& checkpoint, const TensorInfo& tensor,
                   const std::string& bytes) {
  const StoredForm* form = checkpoint.form_of(tensor);
  if (form == nullptr) return bytes.substr(tensor.begin, tensor.bytes());
  const std::uint64_t width = dtype_bits(tensor.dtype) / 8;
  std::string out;
  std::uint64_t count = 1;
  for (const std::uint64_t size : tensor.shape) count *= size;
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint64_t rest = i;
    std::uint64_t at = 0;
    for (std::size_t k = form->sizes.size(); k-- > 0; rest /= form->sizes[k]) {
      at += rest % form->sizes[k] * form->strides[k];
    }
    out += bytes.substr(tensor.begin + at * width, width);
  }
  return out;
}

std::string hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    out += kDigits[static_cast<unsigned char>(c) >> 4];
    out += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

// A line of torch_expected.txt: file, name, dtype, shape, bytes.
std::string describe(const std::string& file, const Checkpoint& checkpoint,
                     const TensorInfo& tensor, const std::string& bytes) {
  std::string shape;
  for (const std::uint64_t size : tensor.shape) {
    shape += (shape.empty() ? "" : ",") + std::to_string(size);
  }
  return file + " " + tensor.name + " " + std::string(torch_dtype_name(tensor.dtype)) + " [" +
         shape + "] " + hex(gather(checkpoint, tensor, bytes));
}

TEST(TorchCorpus, ValidFilesHoldWhatTorchReads) {
  std::set<std::string> expected;
  std::ifstream lines(kCorpus / "torch_expected.txt");
  for (std::string line; std::getline(lines, line);) expected.insert(line);
  ASSERT_FALSE(expected.empty());

  std::set<std::string> found;
  for (const auto& entry : fs::directory_iterator(kCorpus / "torch")) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("ok_")) continue;
    const std::string bytes = slurp(entry.path());
    const Checkpoint checkpoint = read(bytes);
    EXPECT_TRUE(std::ranges::is_sorted(
        checkpoint.tensors, [](const auto& a, const auto& b) { return a.begin < b.begin; }));
    for (const TensorInfo& tensor : checkpoint.tensors) {
      ASSERT_LE(tensor.begin, tensor.end);
      ASSERT_LE(tensor.end, bytes.size());
      EXPECT_TRUE(found.insert(describe(name, checkpoint, tensor, bytes)).second);
    }
  }
  EXPECT_EQ(found, expected);
}

TEST(TorchCorpus, NamesOfOneStorageShareOneRange) {
  const std::string bytes = slurp(kCorpus / "torch/ok_shared");
  std::map<std::string, TensorInfo> tensors;
  for (const TensorInfo& tensor : read(bytes).tensors) tensors[tensor.name] = tensor;
  EXPECT_EQ(tensors.at("wte").begin, tensors.at("head").begin);
  EXPECT_EQ(tensors.at("wte").end, tensors.at("head").end);
  EXPECT_EQ(tensors.at("rows").begin, tensors.at("wte").begin + 4 * sizeof(float));
  EXPECT_EQ(tensors.at("one").begin, tensors.at("wte").begin + 11 * sizeof(float));
  EXPECT_EQ(tensors.at("one").begin % sizeof(float), 0u);
}

TEST(TorchCorpus, EachBrokenFileTripsItsRule) {
  std::set<std::string> seen;
  for (const auto& entry : fs::directory_iterator(kCorpus / "torch")) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("ok_")) continue;
    seen.insert(name);
    const auto rule = kBroken.find(name);
    std::string message;
    try {
      read(slurp(entry.path()));
    } catch (const Error& error) {
      message = error.what();
    }
    if (rule == kBroken.end()) {
      ADD_FAILURE() << name << " has no expectation: " << message;
    } else {
      EXPECT_EQ(message, "f: " + rule->second) << name;
    }
  }
  EXPECT_EQ(seen.size(), kBroken.size()) << "files are missing";
}

// Whatever is cut off a valid file's end, the answer is an Error, and no read leaves the file.
TEST(TorchCorpus, NoPrefixOfAValidFileIsOne) {
  for (const char* name : {"ok_shared", "ok_legacy", "ok_legacy_protocol_5", "ok_directory_64"}) {
    const std::string bytes = slurp(kCorpus / "torch" / name);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_THROW(read(bytes.substr(0, size)), Error) << name << " cut to " << size;
    }
  }
}

}  // namespace
}  // namespace berth
