// The bytes between the RPC protocol and its socket: written at the end, read from the front.
// It is named for the header it stands in for; what is left is moved to the front when room runs
// out, which is rare since the protocol empties it at every message.
#ifndef TVM_EFF_SUPPORT_RING_BUFFER_H_
#define TVM_EFF_SUPPORT_RING_BUFFER_H_

#include <tvm/ffi/error.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>

namespace tvm {
namespace support {

class RingBuffer {
 public:
  size_t bytes_available() const { return end_ - begin_; }

  // Makes room for `size` readable bytes in all.
  void Reserve(size_t size) {
    if (begin_ + size <= capacity_) return;
    size_t available = bytes_available();
    if (size <= capacity_) {
      std::memmove(bytes_.get(), bytes_.get() + begin_, available);
    } else {
      size_t grown = std::max(size, 2 * capacity_);
      std::unique_ptr<char[]> moved(new char[grown]);
      if (available != 0) std::memcpy(moved.get(), bytes_.get() + begin_, available);
      bytes_ = std::move(moved);
      capacity_ = grown;
    }
    begin_ = 0;
    end_ = available;
  }

  void Read(void* data, size_t size) {
    TVM_FFI_ICHECK_GE(bytes_available(), size);
    if (size != 0) std::memcpy(data, bytes_.get() + begin_, size);
    Consume(size);
  }

  void Write(const void* data, size_t size) {
    Reserve(bytes_available() + size);
    if (size != 0) std::memcpy(bytes_.get() + end_, data, size);
    end_ += size;
  }

  // Offers at most `size` bytes to `send`, which returns how many it took.
  template <typename Send>
  size_t ReadWithCallback(Send send, size_t size) {
    TVM_FFI_ICHECK_GE(bytes_available(), size);
    size_t taken = send(static_cast<const void*>(bytes_.get() + begin_), size);
    Consume(taken);
    return taken;
  }

  // Offers room for `size` bytes to `receive`, which returns how many it filled.
  template <typename Receive>
  size_t WriteWithCallback(Receive receive, size_t size) {
    Reserve(bytes_available() + size);
    size_t filled = receive(static_cast<void*>(bytes_.get() + end_), size);
    end_ += filled;
    return filled;
  }

 private:
  void Consume(size_t size) {
    begin_ += size;
    if (begin_ == end_) begin_ = end_ = 0;
  }

  std::unique_ptr<char[]> bytes_;
  size_t capacity_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace support
}  // namespace tvm

#endif  // TVM_EFF_SUPPORT_RING_BUFFER_H_
