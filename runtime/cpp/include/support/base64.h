// Streams that write and read base64, as tensors inside JSON are kept.
#ifndef TVM_EFF_SUPPORT_BASE64_H_
#define TVM_EFF_SUPPORT_BASE64_H_

#include <tvm/ffi/extra/base64.h>
#include <tvm/ffi/string.h>
#include <tvm/support/io.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace tvm {
namespace support {

class Base64OutStream : public Stream {
 public:
  explicit Base64OutStream(Stream* text) : text_(text) {}

  using Stream::Read;
  using Stream::Write;

  size_t Read(void*, size_t) final {
    throw std::logic_error("Base64OutStream is only written to");
  }
  size_t Write(const void* data, size_t size) final {
    plain_.append(static_cast<const char*>(data), size);
    return size;
  }
  // Must be called once, after the last write.
  void Finish() {
    ffi::String encoded = ffi::Base64Encode(ffi::Bytes(plain_));
    text_->Write(static_cast<const void*>(encoded.data()), encoded.size());
  }

 private:
  Stream* text_;
  std::string plain_;
};

class Base64InStream : public Stream {
 public:
  explicit Base64InStream(Stream* text) : text_(text) {}

  using Stream::Read;
  using Stream::Write;

  // Must be called once, before the first read.
  void InitPosition() {
    std::string encoded;
    char block[4096];
    while (size_t count = text_->Read(static_cast<void*>(block), sizeof(block))) {
      encoded.append(block, count);
    }
    plain_ = ffi::Base64Decode(ffi::String(std::move(encoded)));
  }
  size_t Read(void* data, size_t size) final {
    size_t count = std::min(size, plain_.size() - position_);
    if (count != 0) std::memcpy(data, plain_.data() + position_, count);
    position_ += count;
    return count;
  }
  size_t Write(const void*, size_t) final {
    throw std::logic_error("Base64InStream is only read from");
  }

 private:
  Stream* text_;
  ffi::Bytes plain_;
  size_t position_ = 0;
};

}  // namespace support
}  // namespace tvm

#endif  // TVM_EFF_SUPPORT_BASE64_H_
