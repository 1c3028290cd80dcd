#include "planner/base/yaml_quote.h"

#include <yaml.h>

#include <new>
#include <utility>

#include "planner/base/utf8.h"

namespace berth {
namespace {

// libyaml's emitter of one document, which goes to a string.
class Emitter {
 public:
  Emitter() {
    if (yaml_emitter_initialize(&emitter_) == 0) throw std::bad_alloc();
    yaml_emitter_set_output(&emitter_, append, this);
    yaml_emitter_set_unicode(&emitter_, 1);  // only what cannot be printed is escaped
    yaml_emitter_set_width(&emitter_, -1);   // no line is broken
  }
  Emitter(const Emitter&) = delete;
  Emitter& operator=(const Emitter&) = delete;
  ~Emitter() { yaml_emitter_delete(&emitter_); }

  // Takes an event and whether it could be made: only memory can be lacking, since the events of
  // this file are right and its text is UTF-8.
  void emit(int made, yaml_event_t& event) {
    if (made == 0 || yaml_emitter_emit(&emitter_, &event) == 0) throw std::bad_alloc();
  }
  std::string take() { return std::move(out_); }

 private:
  static int append(void* self, unsigned char* bytes, std::size_t size) noexcept {
    try {
      static_cast<Emitter*>(self)->out_.append(reinterpret_cast<const char*>(bytes), size);
      return 1;
    } catch (...) {
      return 0;
    }
  }

  std::string out_;
  yaml_emitter_t emitter_{};
};

}  // namespace

std::string yaml_quote(std::string_view text) {
  const std::string whole = lossy_utf8(text);
  const auto* bytes = reinterpret_cast<const yaml_char_t*>(whole.data());
  const int size = static_cast<int>(whole.size());
  Emitter emitter;
  yaml_event_t event;
  emitter.emit(yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING), event);
  emitter.emit(yaml_document_start_event_initialize(&event, nullptr, nullptr, nullptr, 1), event);
  emitter.emit(yaml_scalar_event_initialize(&event, nullptr, nullptr, bytes, size, 0, 1,
                                            YAML_DOUBLE_QUOTED_SCALAR_STYLE),
               event);
  emitter.emit(yaml_document_end_event_initialize(&event, 1), event);
  emitter.emit(yaml_stream_end_event_initialize(&event), event);
  std::string out = emitter.take();
  out.pop_back();  // the end of the line
  return out;
}

}  // namespace berth
