// Half precision without a compiler's type for it, which 32-bit boards' compilers lack.
#ifndef TVM_EFF_OPENCL_HALF_H_
#define TVM_EFF_OPENCL_HALF_H_

#include <cmath>
#include <cstdint>

namespace tvm_eff {
namespace opencl {

// The bits of the half-precision number nearest to `value`; ties go to the even one.
inline uint16_t HalfBits(double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  if (std::isnan(value)) return sign | 0x7E00;
  // Half way from the largest number to what would be the next one.
  if (magnitude >= 65520.0) return sign | 0x7C00;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  // Numbers below 2^-14 are multiples of 2^-24, others have 11 bits.
  const int last = magnitude < std::ldexp(1.0, -14) ? -24 : exponent - 11;
  const auto units = static_cast<uint32_t>(std::nearbyint(std::ldexp(magnitude, -last)));
  // A carry out of the 11 bits goes into the exponent, as it should.
  const uint32_t bits = (static_cast<uint32_t>(last + 24) << 10) + units;
  return sign | static_cast<uint16_t>(bits);
}

}  // namespace opencl
}  // namespace tvm_eff

#endif  // TVM_EFF_OPENCL_HALF_H_
