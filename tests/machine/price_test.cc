// What a machine costs, and several of a GPU.
#include "planner/machine/price.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "planner/base/yaml.h"
#include "planner/machine/machine_file.h"
#include "planner/machine/machine_writer.h"
#include "planner/machine/named_machine.h"
#include "tests/error_of.h"

namespace berth {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using testing::error_of;
using ::testing::HasSubstr;

TEST(Price, IsANumberForAnHourWithACurrencyOrWithout) {
  for (const auto& [text, amount, currency] :
       {std::tuple("2.49/h", 2.49, ""), std::tuple("$2.49/h", 2.49, "USD"),
        std::tuple("2.49 USD/h", 2.49, "USD"), std::tuple("2.49usd / hour", 2.49, "USD"),
        std::tuple("EUR 0.5/hr", 0.5, "EUR"), std::tuple("3€/h", 3.0, "EUR"),
        std::tuple("£1/h", 1.0, "GBP"), std::tuple("0/h", 0.0, "")}) {
    const Price price = parse_price(text);
    EXPECT_EQ(price.an_hour, amount) << text;
    EXPECT_EQ(price.currency, currency) << text;
  }
}

TEST(Price, IsRefusedWithAnExample) {
  for (const char* text : {"", "2.49", "/h", "two/h", "-1/h", "2,49/h", "1.2.3/h", "$2 EUR/h",
                           "2.49/month", "nan/h", "1e3/h", "2000000/h", "2 dollars/h"}) {
    EXPECT_THAT(error_of([&] { parse_price(text); }),
                AllOf(HasSubstr("is not a price ("), HasSubstr("/h")))
        << text;
  }
}

Machine machine_of(const std::string& price) {
  return parse_machine(
      parse_yaml("price: " + price + "\ndevices: [{name: cpu, capacity: 1GiB}]\n", "m.yaml"));
}

TEST(Price, StandsInAMachineFile) {
  const Machine machine = machine_of("$2.49/h");
  ASSERT_TRUE(machine.price);
  EXPECT_EQ(machine.price->an_hour, 2.49);
  EXPECT_EQ(error_of([] { machine_of("2.49"); }),
            "m.yaml:1: price: '2.49' is not a price (write what an hour costs: 2.49/h)");
  const Machine again = parse_machine(parse_yaml(write_machine(machine), "again.yaml"));
  ASSERT_TRUE(again.price);
  EXPECT_EQ(again.price->an_hour, 2.49);
  EXPECT_EQ(again.price->currency, "USD");
}

TEST(SeveralGpus, AreMadeOfAMachineWithOne) {
  const Machine one = read_named_machine("h100");
  const Machine four = read_named_machine("4xh100");
  ASSERT_EQ(four.devices.size(), one.devices.size() + 3);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(four.devices[i].name, std::to_string(i));
    EXPECT_EQ(four.devices[i].capacity, one.devices[0].capacity);
    const Link* link = four.find_link("cpu", std::to_string(i));
    ASSERT_NE(link, nullptr);
    EXPECT_EQ(link->bandwidth, one.find_link("cpu", "0")->bandwidth);
    EXPECT_EQ(four.find_link(std::to_string(i), std::to_string((i + 1) % 4)), nullptr);
  }
  EXPECT_EQ(four.find("cpu")->capacity, one.find("cpu")->capacity);
  EXPECT_EQ(four.source, "4xh100");
  EXPECT_THAT(four.notes, Contains(AllOf(HasSubstr("4xh100 is no machine file"),
                                         HasSubstr("no links between them"))));
}

TEST(SeveralGpus, AreNotMadeWhereThereIsAFileOrNoSingleGpu) {
  EXPECT_NE(read_named_machine("2x4090").source, "2x4090");  // the file's own path
  EXPECT_THAT(error_of([] { read_named_machine("3x2x4090"); }),
              HasSubstr("3x2x4090: no such machine file, and 2x4090 has 2 GPUs"));
  EXPECT_THAT(error_of([] { read_named_machine("1000xh100"); }), HasSubstr("at most 64 GPUs"));
  EXPECT_THAT(error_of([] { read_named_machine("4xh10O"); }),
              AllOf(HasSubstr("4xh10O: no such machine file, neither here nor in"),
                    HasSubstr("did you mean '4xh100'? there: 2")));
}

TEST(SeveralGpus, AreListedByNameOnlyIfTheyAreFiles) {
  EXPECT_THAT(machine_names(), AllOf(Contains("h100"), Contains("2x4090")));
  EXPECT_TRUE(std::ranges::is_sorted(machine_names()));
}

}  // namespace
}  // namespace berth
