#include "runtime/verify/checksums.h"

#include <simdjson.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

namespace dom = simdjson::dom;

constexpr std::string_view kFormat = "berth-checksums-1";
constexpr std::string_view kAlgorithm = "xxh3-128 of the xxh3-128 of each 262144-byte block";
constexpr std::uint64_t kMostBytes = 1ull << 30;  // of the file; 2 million tensors take half

std::string file_name(const Checkpoint& checkpoint, std::uint32_t shard) {
  return checkpoint.shards[shard].path.filename().string();
}

// A JSON string. Names come out of UTF-8 JSON or a file system; what is not printable is escaped.
std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(c));
      out += code;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

// Reads the text of a checksum file and compares it with the checkpoint that it is for.
class Reading {
 public:
  Reading(const std::string& source, const Checkpoint& checkpoint)
      : source_(source), checkpoint_(checkpoint) {}

  Checksums read(std::string_view text) {
    dom::element document;
    if (const auto error = parser_.parse(text.data(), text.size()).get(document)) {
      fail(std::string("not valid JSON: ") + simdjson::error_message(error));
    }
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

  std::string_view string_at(dom::element parent, const char* key) const {
    std::string_view value;
    if (parent[key].get(value)) fail(std::string("'") + key + "' is missing or not a string");
    return value;
  }
  std::uint64_t number_at(dom::element parent, const char* key) const {
    std::uint64_t value = 0;
    if (parent[key].get(value)) fail(std::string("'") + key + "' is missing or not a number");
    return value;
  }
  dom::array array_at(dom::element parent, const char* key) const {
    dom::array value;
    if (parent[key].get(value)) fail(std::string("'") + key + "' is missing or not an array");
    return value;
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
  dom::parser parser_;
};

}  // namespace

std::string format_checksums(const Checkpoint& checkpoint, const Checksums& checksums) {
  std::ostringstream out;
  out << "{\"format\": " << json_string(kFormat) << ",\n \"algorithm\": " << json_string(kAlgorithm)
      << ",\n \"shards\": [";
  for (std::uint32_t i = 0; i < checkpoint.shards.size(); ++i) {
    out << (i == 0 ? "\n" : ",\n") << "  {\"file\": " << json_string(file_name(checkpoint, i))
        << ", \"bytes\": " << checkpoint.shards[i].file_bytes << "}";
  }
  out << "],\n \"tensors\": [";
  for (std::size_t i = 0; i < checksums.size(); ++i) {
    const TensorInfo& tensor = checkpoint.tensors[i];
    out << (i == 0 ? "\n" : ",\n") << "  {\"name\": " << json_string(tensor.name)
        << ", \"shard\": " << tensor.shard << ", \"begin\": " << tensor.begin
        << ", \"end\": " << tensor.end << ", \"dtype\": " << json_string(dtype_name(tensor.dtype))
        << ", \"xxh3\": \"" << checksums[i].hex() << "\"}";
  }
  out << "]}\n";
  return out.str();
}

Checksums parse_checksums(std::string_view text, const std::string& source,
                          const Checkpoint& checkpoint) {
  return Reading(source, checkpoint).read(text);
}

Checksums read_checksums(const std::filesystem::path& file, const Checkpoint& checkpoint) {
  std::error_code error;
  const std::uint64_t bytes = std::filesystem::file_size(file, error);
  if (error) {
    throw Error(file.string() + ": " + error.message() +
                ": there is nothing to verify against; write the checksums with `berth checksum`, "
                "from files that you "
                "trust");
  }
  if (bytes > kMostBytes) {
    throw Error(file.string() + ": has " + std::to_string(bytes) +
                " bytes, too many for a checksum file");
  }
  std::string text(bytes, '\0');
  std::ifstream in(file, std::ios::binary);
  if (!in.read(text.data(), static_cast<std::streamsize>(bytes))) {
    throw Error(file.string() + ": cannot read the checksums");
  }
  return parse_checksums(text, file.string(), checkpoint);
}

Verifier::Verifier(const Checkpoint& checkpoint, std::filesystem::path file)
    : checkpoint_(checkpoint),
      file_(std::move(file)),
      expected_(read_checksums(file_, checkpoint)),
      digests_(checkpoint, [this](std::uint32_t tensor, const Digest& found) {
        check(tensor, found);
        verified_.fetch_add(1, std::memory_order_relaxed);
      }) {}

void Verifier::check(std::uint32_t tensor, const Digest& found) const {
  if (found == expected_[tensor]) return;
  const TensorInfo& info = checkpoint_.tensors[tensor];
  throw Error(checkpoint_.shards[info.shard].path.string() + ": tensor '" + info.name +
              "', bytes " + std::to_string(info.begin) + " to " + std::to_string(info.end) +
              ": the checksum differs: " + found.hex() + " was read, " + file_.string() + " says " +
              expected_[tensor].hex() + "; the shard is damaged: get it again");
}

}  // namespace berth
