// Memory for the arguments of one RPC call, freed together.
#ifndef TVM_EFF_SUPPORT_ARENA_H_
#define TVM_EFF_SUPPORT_ARENA_H_

#include <cstddef>
#include <memory>
#include <vector>

namespace tvm {
namespace support {

class Arena {
 public:
  template <typename T>
  T* allocate_(size_t count) {
    static_assert(alignof(T) <= alignof(std::max_align_t), "blocks are aligned to max_align_t");
    size_t units = (count * sizeof(T) + sizeof(std::max_align_t) - 1) / sizeof(std::max_align_t);
    blocks_.emplace_back(new std::max_align_t[units]);
    return reinterpret_cast<T*>(blocks_.back().get());
  }

  void RecycleAll() { blocks_.clear(); }

 private:
  std::vector<std::unique_ptr<std::max_align_t[]>> blocks_;
};

}  // namespace support
}  // namespace tvm

#endif  // TVM_EFF_SUPPORT_ARENA_H_
