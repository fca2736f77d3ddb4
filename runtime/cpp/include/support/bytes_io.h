// Streams over bytes in memory.
#ifndef TVM_EFF_SUPPORT_BYTES_IO_H_
#define TVM_EFF_SUPPORT_BYTES_IO_H_

#include <tvm/ffi/string.h>
#include <tvm/support/io.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace tvm {
namespace support {

// Reads bytes that somebody else keeps alive.
class BytesInStream : public Stream {
 public:
  explicit BytesInStream(const std::string& bytes) : data_(bytes.data()), left_(bytes.size()) {}
  explicit BytesInStream(const ffi::Bytes& bytes) : data_(bytes.data()), left_(bytes.size()) {}

  using Stream::Read;
  using Stream::Write;

  size_t Read(void* data, size_t size) final {
    size_t count = std::min(size, left_);
    if (count != 0) std::memcpy(data, data_, count);
    data_ += count;
    left_ -= count;
    return count;
  }
  size_t Write(const void*, size_t) final {
    throw std::logic_error("BytesInStream is only read from");
  }

 private:
  const char* data_;
  size_t left_;
};

// Appends to a string that somebody else owns.
class BytesOutStream : public Stream {
 public:
  explicit BytesOutStream(std::string* bytes) : bytes_(bytes) {}

  using Stream::Read;
  using Stream::Write;

  size_t Read(void*, size_t) final {
    throw std::logic_error("BytesOutStream is only written to");
  }
  size_t Write(const void* data, size_t size) final {
    bytes_->append(static_cast<const char*>(data), size);
    return size;
  }

 private:
  std::string* bytes_;
};

}  // namespace support
}  // namespace tvm

#endif  // TVM_EFF_SUPPORT_BYTES_IO_H_
