#include "runtime/io/engines.h"

namespace berth {

std::string_view io_engine_name(IoEngine engine) { return row_of(engine).name; }

std::optional<IoEngine> parse_io_engine(std::string_view name) { return find_io_engine(name); }

}  // namespace berth
