// The two questions about strings that the runtime asks.
#ifndef TVM_EFF_SUPPORT_UTILS_H_
#define TVM_EFF_SUPPORT_UTILS_H_

#include <algorithm>
#include <cctype>
#include <cstring>
#include <string>

namespace tvm {
namespace support {

inline bool IsNumber(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](unsigned char c) { return std::isdigit(c) != 0; });
}

inline bool StartsWith(const std::string& text, const char* prefix) {
  return text.compare(0, std::strlen(prefix), prefix) == 0;
}

}  // namespace support
}  // namespace tvm

#endif  // TVM_EFF_SUPPORT_UTILS_H_
