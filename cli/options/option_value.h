// Says how an option gets its value: which member it fills, and which functions turn a flag's text
// or a deployment file's YAML into that value.
//
// An OptionValue is plain function pointers, made at compile time by the templates below from a
// pointer to the member and two parsers: one of values.h for texts, one of yaml_values.h for YAML.
// So a row of the option table names each once, and the table costs nothing at start.
#pragma once

#include <filesystem>
#include <string_view>
#include <type_traits>

#include "cli/options/options.h"
#include "cli/options/yaml_values.h"

namespace berth {

struct OptionValue {
  enum class Takes {
    kNothing,  // a switch
    kText,
    kTexts,  // the flag may be given again, each time for one more entry of a list
  };

  Takes takes = Takes::kNothing;
  // Sets the member, or adds to it for kTexts. Throws Error for a bad text; the message does not
  // name the flag, which the caller adds.
  void (*set)(std::string_view text, Options& options) = nullptr;

  // For what a deployment file can say; else empty.
  // `folder` is what relative paths start from. Throws Error "file:line: field: ...".
  void (*read)(const YamlValue& value, const std::filesystem::path& folder,
               Settings& settings) = nullptr;
  bool (*given)(const Settings& settings) = nullptr;
  void (*copy)(const Settings& from, Settings& to) = nullptr;
};

template <typename Member>
struct MemberPointer;
template <typename OwnerType, typename ValueType>
struct MemberPointer<ValueType OwnerType::*> {
  using Owner = OwnerType;
  using Value = ValueType;
};

template <auto member>
inline constexpr bool kIsSetting =
    std::is_same_v<typename MemberPointer<decltype(member)>::Owner, Settings>;

template <auto member>
auto& member_of(Options& options) {
  if constexpr (kIsSetting<member>) {
    return options.settings.*member;
  } else {
    return options.*member;
  }
}

// The half of an OptionValue that a deployment file needs, for a member of Settings.
template <auto member, auto from_yaml>
constexpr OptionValue with_file(OptionValue value) {
  static_assert(kIsSetting<member>, "only a member of Settings can come from a deployment file");
  value.read = [](const YamlValue& yaml, const std::filesystem::path& folder, Settings& settings) {
    settings.*member = from_yaml(yaml, folder);
  };
  value.given = [](const Settings& settings) { return (settings.*member).has_value(); };
  value.copy = [](const Settings& from, Settings& to) { to.*member = from.*member; };
  return value;
}

// A switch, for flags only.
template <auto member>
constexpr OptionValue flag_switch() {
  return {OptionValue::Takes::kNothing,
          [](std::string_view, Options& options) { member_of<member>(options) = true; }};
}

// A switch that adds `entry` to a list, for flags only.
template <auto member, auto entry>
constexpr OptionValue flag_entry() {
  return {OptionValue::Takes::kNothing,
          [](std::string_view, Options& options) { member_of<member>(options).push_back(entry); }};
}

// A value, for flags only.
template <auto member, auto from_text>
constexpr OptionValue flag_value() {
  return {OptionValue::Takes::kText, [](std::string_view text, Options& options) {
            member_of<member>(options) = from_text(text);
          }};
}

// The same for options that a deployment file can say, too.
template <auto member>
constexpr OptionValue on() {
  return with_file<member, boolean_in>(flag_switch<member>());
}

template <auto member, auto from_text, auto from_yaml = scalar_in<from_text>>
constexpr OptionValue value() {
  return with_file<member, from_yaml>(flag_value<member, from_text>());
}

// A list: every use of the flag adds an entry, and the file has them all.
template <auto member, auto entry_from_text, auto from_yaml>
constexpr OptionValue list() {
  return with_file<member, from_yaml>(
      {OptionValue::Takes::kTexts, [](std::string_view text, Options& options) {
         auto& entries = member_of<member>(options);
         if (!entries) entries.emplace();
         entries->push_back(entry_from_text(text));
       }});
}

}  // namespace berth
