#include "runtime/verify/checksums.h"

#include <cerrno>
#include <cstring>

#include "berth/error.h"
#include "planner/base/input_file.h"
#include "planner/base/json_value.h"
#include "planner/base/json_writer.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

namespace dom = simdjson::dom;

constexpr std::string_view kFormat = "berth-checksums-1";
constexpr std::string_view kAlgorithm = "xxh3-128 of the xxh3-128 of each 262144-byte block";

// How large a checksum file of this checkpoint may be: names may be written with six bytes for each
// of theirs, and there may be white space.
std::uint64_t most_bytes(const Checkpoint& checkpoint) {
  constexpr std::uint64_t kRow = 1024;  // besides the name
  std::uint64_t bytes = kRow;
  for (const Shard& shard : checkpoint.shards)
    bytes += kRow + 6 * shard.path.filename().native().size();
  for (const TensorInfo& tensor : checkpoint.tensors) bytes += kRow + 6 * tensor.name.size();
  return bytes;
}

// From the model's folder on, because shards may stand in folders of it.
std::string file_name(const Checkpoint& checkpoint, std::uint32_t shard) {
  const std::filesystem::path& path = checkpoint.shards[shard].path;
  const std::filesystem::path inside = path.lexically_relative(checkpoint.folder);
  const bool outside = inside.empty() || *inside.begin() == "..";
  return (outside ? path.filename() : inside).string();
}

JsonWriter row() { return JsonWriter(JsonForm::kOneLine, JsonEscapes::kPlain); }

// Reads the text of a checksum file and compares it with the checkpoint that it is for.
class Reading {
 public:
  Reading(const std::string& source, const Checkpoint& checkpoint)
      : source_(source), checkpoint_(checkpoint) {}

  Checksums read(std::string_view text) const {
    const JsonDocument parsed(text, source_);
    const dom::element document = parsed.root().element();
    if (string_at(document, "format") != kFormat ||
        string_at(document, "algorithm") != kAlgorithm) {
      fail(
          "not a checksum file that this version of Berth knows; write it anew with `berth "
          "checksum`");
    }
    read_shards(array_at(document, "shards"));
    return read_tensors(array_at(document, "tensors"));
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(source_ + ": " + what); }
  [[noreturn]] void stale(const std::string& what) const {
    fail("stale: " + what +
         "; if the model was meant to change, write the checksums anew with `berth checksum`");
  }

  template <typename T>
  T member(dom::element parent, const char* key, const char* kind) const {
    const auto value = json_member<T>(parent, key);
    if (!value) fail(std::string("'") + key + "' is missing or not " + kind);
    return *value;
  }
  std::string_view string_at(dom::element parent, const char* key) const {
    return member<std::string_view>(parent, key, "a string");
  }
  std::uint64_t number_at(dom::element parent, const char* key) const {
    return member<std::uint64_t>(parent, key, "a number");
  }
  dom::array array_at(dom::element parent, const char* key) const {
    return member<dom::array>(parent, key, "an array");
  }

  void read_shards(dom::array shards) const {
    std::uint32_t i = 0;
    for (const dom::element shard : shards) {
      const std::string name(string_at(shard, "file"));
      const std::uint64_t bytes = number_at(shard, "bytes");
      if (i >= checkpoint_.shards.size() || name != file_name(checkpoint_, i)) {
        stale("it lists " + quote(name) + ", which is not the next shard of this model");
      }
      if (bytes != checkpoint_.shards[i].file_bytes) {
        stale(quote(name) + " had " + std::to_string(bytes) + " bytes then and has " +
              std::to_string(checkpoint_.shards[i].file_bytes) + " now");
      }
      ++i;
    }
    if (i < checkpoint_.shards.size()) {
      stale("it does not list the shard " + quote(file_name(checkpoint_, i)));
    }
  }

  Checksums read_tensors(dom::array tensors) const {
    Checksums checksums;
    checksums.reserve(checkpoint_.tensors.size());
    for (const dom::element tensor : tensors) {
      const std::string name(string_at(tensor, "name"));
      if (checksums.size() >= checkpoint_.tensors.size()) {
        stale("the model has no tensor " + quote(name) + " any more");
      }
      const TensorInfo& info = checkpoint_.tensors[checksums.size()];
      const bool same = name == info.name && number_at(tensor, "shard") == info.shard &&
                        number_at(tensor, "begin") == info.begin &&
                        number_at(tensor, "end") == info.end &&
                        string_at(tensor, "dtype") == dtype_name(info.dtype);
      if (!same) {
        stale("the model's tensor " + quote(info.name) +
              " has another name, shard, byte range or dtype than it had then");
      }
      const std::optional<Digest> digest = Digest::parse(string_at(tensor, "xxh3"));
      if (!digest) fail("tensor " + quote(name) + ": 'xxh3' is not 32 lower-case hex digits");
      checksums.push_back(*digest);
    }
    if (checksums.size() < checkpoint_.tensors.size()) {
      stale("it does not list the tensor " + quote(checkpoint_.tensors[checksums.size()].name));
    }
    return checksums;
  }

  const std::string& source_;
  const Checkpoint& checkpoint_;
};

}  // namespace

std::string format_checksums(const Checkpoint& checkpoint, const Checksums& checksums) {
  std::string out = "{\"format\": " + json_quote(kFormat) +
                    ",\n \"algorithm\": " + json_quote(kAlgorithm) + ",\n \"shards\": [";
  for (std::uint32_t i = 0; i < checkpoint.shards.size(); ++i) {
    out += i == 0 ? "\n  " : ",\n  ";
    out += row()
               .begin_object()
               .member("file", file_name(checkpoint, i))
               .member("bytes", checkpoint.shards[i].file_bytes)
               .end_object()
               .take_value();
  }
  out += "],\n \"tensors\": [";
  for (std::size_t i = 0; i < checksums.size(); ++i) {
    const TensorInfo& tensor = checkpoint.tensors[i];
    out += i == 0 ? "\n  " : ",\n  ";
    out += row()
               .begin_object()
               .member("name", tensor.name)
               .member("shard", tensor.shard)
               .member("begin", tensor.begin)
               .member("end", tensor.end)
               .member("dtype", dtype_name(tensor.dtype))
               .member("xxh3", checksums[i].hex())
               .end_object()
               .take_value();
  }
  return out += "]}\n";
}

Checksums parse_checksums(std::string_view text, const std::string& source,
                          const Checkpoint& checkpoint) {
  return Reading(source, checkpoint).read(text);
}

Checksums read_checksums(const std::filesystem::path& file, const Checkpoint& checkpoint) {
  if (std::error_code error; !std::filesystem::exists(file, error)) {
    throw Error(file.string() + ": " + std::strerror(error ? error.value() : ENOENT) +
                ": there is nothing to verify against; write the checksums with `berth checksum`, "
                "from files that you "
                "trust");
  }
  return parse_checksums(read_text_file(file, most_bytes(checkpoint)), file.string(), checkpoint);
}

Verifier::Verifier(const Checkpoint& checkpoint, std::filesystem::path file)
    : checkpoint_(checkpoint),
      file_(std::move(file)),
      expected_(read_checksums(file_, checkpoint)),
      digests_(checkpoint,
               [this](std::uint32_t tensor, const Digest& found) { compare(tensor, found); }) {}

void Verifier::check(std::uint32_t tensor, const Digest& found) const {
  if (found == expected_[tensor]) return;
  const TensorInfo& info = checkpoint_.tensors[tensor];
  throw Error(checkpoint_.shards[info.shard].path.string() + ": tensor " + quote(info.name) +
              ", bytes " + std::to_string(info.begin) + " to " + std::to_string(info.end) +
              ": the checksum differs: " + found.hex() + " was read, " + file_.string() + " says " +
              expected_[tensor].hex() + "; the shard is damaged: get it again");
}

}  // namespace berth
