// Writes a few shapes as SVG. The document needs nothing from elsewhere: it has no scripts and no
// style sheets, and uses the viewer's own sans-serif font.
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

  // `tip` is shown while the pointer rests on the box; empty for none.
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

// Escapes `text` to stand between tags or quotes. What XML 1.0 cannot hold (control characters, and
// bytes that are not UTF-8) becomes U+FFFD.
std::string xml_escape(std::string_view text);

// About the width of `text` in pixels in a sans-serif font: rather a little too much than too
// little.
double text_width(std::string_view text, double size, bool bold = false);

// `text`, or its beginning and "…" if it is wider than `width`.
std::string fitted(std::string_view text, double size, double width, bool bold = false);

}  // namespace berth
