// The few shapes that pictures here are made of, written as SVG: no scripts, no styles from
// elsewhere, the viewer's own sans-serif font.
#pragma once

#include <string>
#include <string_view>

namespace berth {

struct Box {
  double x = 0;
  double y = 0;
  double width = 0;
  double height = 0;
};

struct TextStyle {
  double size = 11;
  const char* fill = "#1f2933";
  const char* anchor = "start";  // start, middle or end
  bool bold = false;
};

class SvgCanvas {
 public:
  // Opens the document; `title` is what assistive software reads.
  SvgCanvas(double width, double height, std::string_view title);

  // `tip` is shown where the pointer rests; empty for none.
  void rect(const Box& box, std::string_view fill, std::string_view extra = {},
            std::string_view tip = {});
  void line(double x1, double y1, double x2, double y2, std::string_view stroke,
            std::string_view extra = {});
  void path(std::string_view data, std::string_view fill, std::string_view extra = {});
  void text(double x, double y, std::string_view words, const TextStyle& style = {});

  std::string take();  // closes the document

 private:
  std::string out_;
};

// `text` inside XML, between tags or quotes. What XML 1.0 cannot hold (control characters, bytes
// that are no UTF-8) becomes U+FFFD.
std::string xml_escape(std::string_view text);

// Width of `text` in pixels as sans-serif fonts have it on average: a little more rather than less.
double text_width(std::string_view text, double size, bool bold = false);

// `text`, or its head and "…" where it is wider than `width`.
std::string fitted(std::string_view text, double size, double width, bool bold = false);

}  // namespace berth
