// Sizes, rates and times: what is accepted, and the message of every error.
#include "planner/machine/sizes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "berth/error.h"

namespace berth {
namespace {

using ::testing::HasSubstr;

template <class Parse>
std::string refusal(Parse parse, std::string_view text) {
  try {
    parse(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Sizes, CountDecimalAndBinaryUnitsAsAccelerateDoes) {
  EXPECT_EQ(parse_size("0"), 0u);
  EXPECT_EQ(parse_size("123"), 123u);
  EXPECT_EQ(parse_size("7B"), 7u);
  EXPECT_EQ(parse_size("80GB"), 80'000'000'000u);
  EXPECT_EQ(parse_size("24GiB"), 24ull << 30);
  EXPECT_EQ(parse_size("512MiB"), 512ull << 20);
  EXPECT_EQ(parse_size("3KB"), 3000u);
  EXPECT_EQ(parse_size("3KiB"), 3072u);
  EXPECT_EQ(parse_size("1TB"), 1'000'000'000'000u);
  EXPECT_EQ(parse_size("1TiB"), 1ull << 40);
  EXPECT_EQ(parse_size("2PiB"), 2ull << 50);
  EXPECT_EQ(parse_size("2PB"), 2'000'000'000'000'000u);
}

TEST(Sizes, TakeFractionsSpacesExponentsAndAnyCase) {
  EXPECT_EQ(parse_size("1.5GiB"), 3ull << 29);
  EXPECT_EQ(parse_size(".5 KiB"), 512u);
  EXPECT_EQ(parse_size(" 24 gib "), 24ull << 30);
  EXPECT_EQ(parse_size("24GIB"), 24ull << 30);
  EXPECT_EQ(parse_size("24gB"), 24'000'000'000u);
  EXPECT_EQ(parse_size("1e9"), 1'000'000'000u);
  EXPECT_EQ(parse_size("1.9"), 1u) << "fractions of a byte round down";
  EXPECT_EQ(parse_size("0.0001KiB"), 0u);
}

TEST(Sizes, KeepWholeNumbersExact) {
  EXPECT_EQ(parse_size("9007199254740993"), 9007199254740993u) << "no double holds it";
  EXPECT_EQ(parse_size("9223372036854775807"), 9223372036854775807u);
  EXPECT_EQ(parse_size("8191PiB"), 8191ull << 50);
}

TEST(Sizes, RefuseWhatIsNoSizeWithAdvice) {
  EXPECT_EQ(refusal(parse_size, "80GBs"), "'80GBs' is not a size (try 80GB)");
  EXPECT_EQ(refusal(parse_size, "1.5GigB"), "'1.5GigB' is not a size (try 1.5GiB)");
  EXPECT_EQ(refusal(parse_size, "80Gb"),
            "'80Gb' is not a size (a lowercase b means bits; for bytes write 80GB)");
  EXPECT_EQ(refusal(parse_size, "80gb"),
            "'80gb' is not a size (a lowercase b means bits; for bytes write 80GB)");
  EXPECT_EQ(refusal(parse_size, "24G"), "'24G' is not a size (try 24GB or 24GiB)");
  EXPECT_EQ(refusal(parse_size, "24k"), "'24k' is not a size (try 24KB or 24KiB)");
  EXPECT_EQ(refusal(parse_size, "-1"), "'-1' is not a size (it is negative)");
  EXPECT_EQ(refusal(parse_size, "1e400"), "'1e400' is not a size (the number is out of range)");
  EXPECT_EQ(refusal(parse_size, ""), "'' is not a size (write it like 24GiB or 80GB)");
  for (const char* text : {"GiB", "many", "0x10", "inf", "nan", "+1", "1..5GiB", "1,5GiB", "1_000",
                           "24GiB 24GiB", "1 2", "24GiB/s", "24EiB", "--1", "1e", ".", "\x01"})
    EXPECT_THAT(refusal(parse_size, text), HasSubstr("is not a size (")) << text;
}

TEST(Sizes, RefuseWhatDoesNotFitIn63Bits) {
  for (const char* text : {"9223372036854775808", "18446744073709551616", "8192PiB", "8192.0PiB",
                           "1e19", "99999999999999999999999999GiB", "1e308PiB"})
    EXPECT_EQ(refusal(parse_size, text),
              std::string("'") + text + "' is not a size (it is 2^63 bytes or more)");
}

TEST(Sizes, KeepRefusalsShortAndPrintable) {
  const std::string message = refusal(parse_size, std::string(100000, '\n'));
  EXPECT_LT(message.size(), 500u);
  EXPECT_EQ(message.find('\n'), std::string::npos);
  EXPECT_LT(refusal(parse_size, std::string(100000, '9') + "zz").size(), 500u);
}

TEST(Bandwidths, AreBytesPerSecond) {
  EXPECT_DOUBLE_EQ(parse_bandwidth("25GB/s"), 25e9);
  EXPECT_DOUBLE_EQ(parse_bandwidth("1008 GB/s"), 1008e9);
  EXPECT_DOUBLE_EQ(parse_bandwidth("4.8TB/S"), 4.8e12);
  EXPECT_DOUBLE_EQ(parse_bandwidth("2GiB/s"), 2.0 * (1 << 30));
  EXPECT_DOUBLE_EQ(parse_bandwidth("25e9"), 25e9);
  EXPECT_EQ(refusal(parse_bandwidth, "25GB"), "'25GB' is not a bandwidth (try 25GB/s)");
  EXPECT_EQ(refusal(parse_bandwidth, "25GBps"), "'25GBps' is not a bandwidth (try 25GB/s)");
  EXPECT_EQ(refusal(parse_bandwidth, "25Gb/s"),
            "'25Gb/s' is not a bandwidth (a lowercase b means bits; for bytes write 25GB/s)");
  EXPECT_EQ(refusal(parse_bandwidth, "25G/s"),
            "'25G/s' is not a bandwidth (try 25GB/s or 25GiB/s)");
  for (const char* text : {"fast", "-1GB/s", "/s", "1e308PB/s", "25GB/h"})
    EXPECT_THAT(refusal(parse_bandwidth, text), HasSubstr("is not a bandwidth (")) << text;
}

TEST(Flops, TakeTheUsualSpellings) {
  for (const char* text :
       {"165TFLOP/s", "165TFLOPS", "165 tflops", "165TFLOPs/s", "0.165PFLOP/s", "165e12"})
    EXPECT_DOUBLE_EQ(parse_flops(text), 165e12) << text;
  EXPECT_DOUBLE_EQ(parse_flops("3FLOP/s"), 3);
  EXPECT_EQ(refusal(parse_flops, "165TFLOPS/z"),
            "'165TFLOPS/z' is not a rate of FLOP/s (try 165TFLOP/s)");
  for (const char* text : {"165T", "fast", "165GB/s", "-1TFLOPS"})
    EXPECT_THAT(refusal(parse_flops, text), HasSubstr("is not a rate of FLOP/s (")) << text;
}

TEST(Durations, AreSeconds) {
  EXPECT_DOUBLE_EQ(parse_duration("10us"), 10e-6);
  EXPECT_DOUBLE_EQ(parse_duration("10\u00b5s"), 10e-6);
  EXPECT_DOUBLE_EQ(parse_duration("1.5 ms"), 1.5e-3);
  EXPECT_DOUBLE_EQ(parse_duration("2s"), 2);
  EXPECT_DOUBLE_EQ(parse_duration("0"), 0);
  EXPECT_EQ(refusal(parse_duration, "10"),
            "'10' is not a time (a unit is missing: s, ms, us or ns)");
  EXPECT_EQ(refusal(parse_duration, "-1us"), "'-1us' is not a time (it is negative)");
  EXPECT_THAT(refusal(parse_duration, "10min"), HasSubstr("is not a time ("));
}

TEST(Sizes, PrintWithTheLargestUnitThatFits) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(1023), "1023 B");
  EXPECT_EQ(format_size(12 << 10), "12.0 KiB");
  EXPECT_EQ(format_size((1 << 20) - 1), "1.0 MiB") << "never 1024.0 KiB";
  EXPECT_EQ(format_size((1ull << 30) - 1), "1.00 GiB");
  EXPECT_EQ(format_size(141'107'412'992), "131.42 GiB");
  EXPECT_EQ(format_size(1ull << 40), "1.00 TiB");
  EXPECT_EQ(format_size(~0ull), "16.00 EiB");
  EXPECT_EQ(format_gib(141'107'412'992), "131.42");
  EXPECT_EQ(format_gib(1ull << 29, 1), "0.5");
  EXPECT_EQ(format_gib(0, 0), "0");
}

TEST(Sizes, ReadBackWhatTheyPrintWithinItsPrecision) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 5000; ++round) {
    const std::uint64_t bytes = random() >> (10 + random() % 54);
    const double back = static_cast<double>(parse_size(format_size(bytes)));
    EXPECT_NEAR(back, static_cast<double>(bytes), static_cast<double>(bytes) * 0.051 + 0.5)
        << bytes;
  }
}

TEST(Sizes, ReadEveryWholeNumberInEveryUnitExactly) {
  std::mt19937_64 random(2);
  const std::pair<const char*, std::uint64_t> units[] = {{"", 1},
                                                         {"B", 1},
                                                         {"KB", 1000},
                                                         {"MB", 1000000},
                                                         {"GB", 1000000000},
                                                         {"KiB", 1ull << 10},
                                                         {"MiB", 1ull << 20},
                                                         {"GiB", 1ull << 30},
                                                         {"TiB", 1ull << 40}};
  for (int round = 0; round < 5000; ++round) {
    const auto& [name, factor] = units[random() % std::size(units)];
    const std::uint64_t count = random() % (((1ull << 63) - 1) / factor + 1);
    EXPECT_EQ(parse_size(std::to_string(count) + name), count * factor);
  }
}

TEST(Sizes, SurviveRandomText) {
  std::mt19937 random(3);
  const std::string alphabet = "0123456789.eE+-KMGTPiIBbs/ FLOPu\xc2\xb5";
  for (int round = 0; round < 50000; ++round) {
    std::string text;
    for (std::size_t i = random() % 12; i > 0; --i) text += alphabet[random() % alphabet.size()];
    try {
      EXPECT_LT(parse_size(text), 1ull << 63) << text;
    } catch (const Error&) {
    }
    for (double (*parse)(std::string_view) : {parse_bandwidth, parse_flops, parse_duration}) {
      try {
        const double value = parse(text);
        EXPECT_TRUE(std::isfinite(value) && value >= 0) << text;
      } catch (const Error&) {
      }
    }
  }
}

}  // namespace
}  // namespace berth
