#include "cli/report/svg_canvas.h"

#include <fmt/format.h>

#include "planner/base/utf8.h"

namespace berth {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// How many bytes the character at the start of `text` has; 0 if it is ill-formed or XML 1.0 does
// not allow it.
std::size_t allowed_sequence(std::string_view text) {
  const std::size_t length = utf8_length(text);
  const char first = text[0];
  const bool control =
      static_cast<unsigned char>(first) < 0x20 && first != '\t' && first != '\n' && first != '\r';
  const std::string_view character = text.substr(0, length);
  if (control || character == "\uFFFE" || character == "\uFFFF") return 0;
  return length;
}

// The same, but 1 for such a character.
std::size_t step(std::string_view text) {
  const std::size_t length = allowed_sequence(text);
  return length == 0 ? 1 : length;
}

}  // namespace

std::string xml_escape(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = allowed_sequence(text);
    if (length == 0) {
      out += kReplacement;
    } else if (text[0] == '&') {
      out += "&amp;";
    } else if (text[0] == '<') {
      out += "&lt;";
    } else if (text[0] == '>') {
      out += "&gt;";
    } else if (text[0] == '"') {
      out += "&quot;";
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(step(text));
  }
  return out;
}

double text_width(std::string_view text, double size, bool bold) {
  double ems = 0;
  while (!text.empty()) {
    const char c = text[0];
    const bool narrow = std::string_view(".,:;'|!ijlI ()-").find(c) != std::string_view::npos;
    const bool wide = (c >= 'A' && c <= 'Z') || c == 'm' || c == 'w' || c == '_';
    ems += narrow ? 0.36 : wide ? 0.76 : 0.6;
    text.remove_prefix(step(text));
  }
  return ems * size * (bold ? 1.08 : 1);
}

std::string fitted(std::string_view text, double size, double width, bool bold) {
  if (text_width(text, size, bold) <= width) return std::string(text);
  const double room = width - text_width("m", size, bold);
  std::size_t end = 0;
  while (end < text.size()) {
    const std::size_t next = end + step(text.substr(end));
    if (text_width(text.substr(0, next), size, bold) > room) break;
    end = next;
  }
  return end == 0 ? "" : std::string(text.substr(0, end)) + "\xE2\x80\xA6";
}

SvgCanvas::SvgCanvas(double width, double height, std::string_view title) {
  out_ = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
      "width=\"{0:.0f}\" height=\"{1:.0f}\" role=\"img\" "
      "font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\">\n"
      "<title>{2}</title>\n",
      width, height, xml_escape(title));
  rect({0, 0, width, height}, "#ffffff");
}

void SvgCanvas::rect(const Box& box, std::string_view fill, std::string_view extra,
                     std::string_view tip) {
  out_ += fmt::format(
      "<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" fill=\"{}\"{}{}", box.x,
      box.y, box.width, box.height, fill, extra.empty() ? "" : " ", extra);
  out_ += tip.empty() ? "/>\n" : "><title>" + xml_escape(tip) + "</title></rect>\n";
}

void SvgCanvas::line(double x1, double y1, double x2, double y2, std::string_view stroke,
                     std::string_view extra) {
  out_ += fmt::format(
      "<line x1=\"{:.2f}\" y1=\"{:.2f}\" x2=\"{:.2f}\" y2=\"{:.2f}\" stroke=\"{}\"{}{}/>\n", x1, y1,
      x2, y2, stroke, extra.empty() ? "" : " ", extra);
}

void SvgCanvas::path(std::string_view data, std::string_view fill, std::string_view extra) {
  out_ += fmt::format("<path d=\"{}\" fill=\"{}\"{}{}/>\n", data, fill, extra.empty() ? "" : " ",
                      extra);
}

void SvgCanvas::text(double x, double y, std::string_view words, const TextStyle& style) {
  if (words.empty()) return;
  out_ += fmt::format(
      "<text x=\"{:.2f}\" y=\"{:.2f}\" font-size=\"{:.4g}\" fill=\"{}\" text-anchor=\"{}\"{}>{}"
      "</text>\n",
      x, y, style.size, style.fill, style.anchor, style.bold ? " font-weight=\"600\"" : "",
      xml_escape(words));
}

std::string SvgCanvas::take() { return std::move(out_) + "</svg>\n"; }

}  // namespace berth
