#include "planner/checkpoint/safetensors/shard_index.h"

#include <simdjson.h>

#include <algorithm>
#include <map>
#include <utility>

#include "berth/error.h"
#include "planner/base/input_file.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/name_table.h"
#include "planner/checkpoint/safetensors/plain_json.h"

namespace berth {
namespace {

namespace ondemand = simdjson::ondemand;

// Whether a path goes up a folder somewhere. Both kinds of slashes count, wherever it was written.
bool goes_up(std::string_view path) {
  while (!path.empty()) {
    const std::size_t slash = std::min(path.find_first_of("/\\"), path.size());
    if (path.substr(0, slash) == "..") return true;
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return false;
}

// Says what is wrong with a shard's `name`; empty if it is a file of the folder, or of a folder in
// it, that ends in `suffix`.
std::string objection(std::string_view name, std::string_view suffix) {
  if (name.empty()) return "is empty";
  if (name.front() == '/' || goes_up(name)) return "leads out of the folder";
  if (name.find('\0') != name.npos) return "holds a NUL byte";
  if (!name.ends_with(suffix)) return "is not a " + std::string(suffix) + " file";
  return "";
}

class IndexReader {
 public:
  IndexReader(const std::string& source, const CheckpointLimits& limits, std::string_view suffix)
      : source_(source), limits_(limits), suffix_(suffix) {}

  // `text` holds `size` bytes of JSON, then simdjson::SIMDJSON_PADDING zeros.
  ShardIndex read(std::unique_ptr<char[]> text, std::size_t size) {
    const std::string_view json(text.get(), size);
    index_.text = std::move(text);
    end_ = json.data() + json.size();
    // Guesses the number of entries. Names are long or short, but the guess is within a factor of
    // two.
    index_.entries.reserve(size / 96);
    if (!read_plain(json)) {
      forget();
      read_any(json);
    }
    return finish();
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(source_ + ": " + what); }
  [[noreturn]] void fail_json(simdjson::error_code error) const {
    fail(std::string("not a valid JSON object: ") + simdjson::error_message(error));
  }

  // Reads an index as transformers writes it: metadata of plain numbers, then the map. Returns
  // false if it is written in another way.
  bool read_plain(std::string_view text) {
    PlainJson json(text);
    json.space();
    if (!json.take("{")) return false;
    json.space();
    if (json.take("\"metadata\":") && !go_over_numbers(json)) return false;
    if (!json.take("\"weight_map\":")) return false;
    json.space();
    if (!json.take("{")) return false;
    std::string_view tensor;
    std::string_view shard;
    do {
      json.space();
      if (!json.take("\"") || !json.string(tensor) || !json.take(":")) return false;
      json.space();
      if (!json.take("\"") || !json.string(shard)) return false;
      add(tensor, shard);
      json.space();
    } while (json.take(","));
    if (!json.take("}")) return false;
    json.space();
    if (!json.take("}")) return false;
    json.space();
    return json.rest().empty();
  }

  // Steps over {"total_parameters": 1, "total_size": 2} and the comma after it.
  static bool go_over_numbers(PlainJson& json) {
    std::string_view key;
    std::uint64_t value = 0;
    json.space();
    if (!json.take("{")) return false;
    do {
      json.space();
      if (!json.take("\"") || !json.string(key) || !json.take(":")) return false;
      json.space();
      if (!json.number(value)) return false;
      json.space();
    } while (json.take(","));
    if (!json.take("}")) return false;
    json.space();
    if (!json.take(",")) return false;
    json.space();
    return true;
  }

  void forget() {
    index_.entries.clear();
    index_.names.restart(0);
    numbers_.clear();
    last_ = numbers_.end();
  }

  void read_any(std::string_view json) {
    ondemand::parser parser;
    ondemand::document document;
    ondemand::object object;
    if (auto error = parser.iterate(json, json.size() + simdjson::SIMDJSON_PADDING).get(document))
      fail_json(error);
    if (auto error = document.get_object().get(object)) fail_json(error);
    bool found = false;
    for (auto result : object) {
      ondemand::field field;
      std::string_view key;
      if (auto error = std::move(result).get(field)) fail_json(error);
      if (auto error = field.unescaped_key().get(key)) fail_json(error);
      if (key != "weight_map") continue;         // `metadata` is free-form
      if (std::exchange(found, true)) forget();  // of a key that comes twice, Python takes the last
      read_map(field.value());
    }
    if (document.current_location().error() != simdjson::OUT_OF_BOUNDS) {
      fail("the file goes on after its closing '}'");
    }
    if (!found) fail("the key 'weight_map' is missing");
  }

  void read_map(ondemand::value value) {
    ondemand::object object;
    if (value.get_object().get(object)) fail("weight_map: not an object");
    for (auto result : object) {
      ondemand::field field;
      std::string_view tensor;
      std::string_view shard;
      if (auto error = std::move(result).get(field)) fail_json(error);
      tensor = name_of_key(field);
      if (field.value().get_string().get(shard)) {
        fail("weight_map: the shard of tensor " + quote(tensor) + " is not a string");
      }
      add(tensor, shard);
    }
  }

  // `tensor` is kept as a view, so its text must stay where it is.
  void add(std::string_view tensor, std::string_view shard) {
    const auto name_of = [this](std::uint32_t i) { return index_.entries[i].tensor; };
    const std::uint32_t known = index_.names.add(tensor, name_of);
    if (known != NameTable::kAbsent) {  // as above
      index_.entries[known].shard = number_of(shard, tensor);
      return;
    }
    if (index_.entries.size() >= limits_.tensors) {
      fail("weight_map: more than " + std::to_string(limits_.tensors) + " tensors");
    }
    index_.entries.push_back({tensor, number_of(shard, tensor)});
  }

  // The tensor's name as a view into the text. Only a name with escapes in it is stored apart.
  std::string_view name_of_key(ondemand::field& field) {
    const char* first = field.key().raw();
    const std::string_view rest(first, static_cast<std::size_t>(end_ - first));
    const std::string_view name = rest.substr(0, rest.find('"'));
    if (name.find('\\') == name.npos) return name;
    std::string_view unescaped;
    if (auto error = field.unescaped_key().get(unescaped)) fail_json(error);
    return index_.unescaped.emplace_back(unescaped);
  }

  std::uint32_t number_of(std::string_view shard, std::string_view tensor) {
    // Remembers the last shard, because neighbouring tensors are mostly in the same one.
    if (last_ != numbers_.end() && last_->first == shard) return last_->second;
    last_ = numbers_.find(shard);
    if (last_ != numbers_.end()) return last_->second;
    if (const std::string wrong = objection(shard, suffix_); !wrong.empty()) {
      fail("weight_map: the shard name " + quote(shard) + " of tensor " + quote(tensor) + " " +
           wrong);
    }
    if (numbers_.size() >= limits_.shards) {
      fail("weight_map: more than " + std::to_string(limits_.shards) + " shards");
    }
    const auto number = static_cast<std::uint32_t>(numbers_.size());
    last_ = numbers_.emplace(shard, number).first;
    return number;
  }

  // Shards have been numbered as they appeared; this sorts them by name, and leaves out those of
  // entries that a later one replaced.
  ShardIndex finish() {
    if (index_.entries.empty()) fail("weight_map: names no tensor");
    std::vector<bool> used(numbers_.size(), false);
    for (const auto& entry : index_.entries) used[entry.shard] = true;
    std::vector<std::uint32_t> sorted(numbers_.size());
    for (const auto& [name, number] : numbers_) {
      if (!used[number]) continue;
      sorted[number] = static_cast<std::uint32_t>(index_.shards.size());
      index_.shards.push_back(name);
    }
    for (auto& entry : index_.entries) entry.shard = sorted[entry.shard];
    return std::move(index_);
  }

  const std::string& source_;
  const CheckpointLimits& limits_;
  std::string_view suffix_;
  ShardIndex index_;
  const char* end_ = nullptr;  // of the text
  std::map<std::string, std::uint32_t, std::less<>> numbers_;
  decltype(numbers_)::const_iterator last_ = numbers_.end();
};

// Memory for `size` bytes, which are not written yet, and the zeros that the parser needs after
// them.
std::unique_ptr<char[]> padded_text(std::size_t size) {
  auto text = std::make_unique_for_overwrite<char[]>(size + simdjson::SIMDJSON_PADDING);
  std::fill_n(text.get() + size, simdjson::SIMDJSON_PADDING, '\0');
  return text;
}

}  // namespace

std::uint32_t ShardIndex::find(std::string_view tensor, std::uint32_t hint) const {
  if (hint < entries.size() && entries[hint].tensor == tensor) return hint;
  if (!names.ascending()) {
    return names.table().find(tensor, [this](std::uint32_t i) { return entries[i].tensor; });
  }
  const auto at = std::ranges::lower_bound(entries, tensor, {}, &Entry::tensor);
  if (at == entries.end() || at->tensor != tensor) return NameTable::kAbsent;
  return static_cast<std::uint32_t>(at - entries.begin());
}

ShardIndex parse_shard_index(std::string_view json, const std::string& source,
                             const CheckpointLimits& limits, std::string_view suffix) {
  std::unique_ptr<char[]> text = padded_text(json.size());
  std::ranges::copy(json, text.get());
  return IndexReader(source, limits, suffix).read(std::move(text), json.size());
}

ShardIndex read_shard_index(const std::filesystem::path& path, const CheckpointLimits& limits,
                            std::string_view suffix) {
  const File file(path);
  if (file.size() > limits.header_bytes) {
    throw Error(path.string() + ": has " + std::to_string(file.size()) +
                " bytes, the limit for an index is " + std::to_string(limits.header_bytes));
  }
  // Reads straight into the memory that is parsed: the index of a large model has several MB.
  std::unique_ptr<char[]> text = padded_text(file.size());
  file.read_exactly(0, text.get(), file.size());
  const std::string source = path.string();
  return IndexReader(source, limits, suffix).read(std::move(text), file.size());
}

}  // namespace berth
