#include "source.h"

#include <tvm/ffi/error.h>

#include <cstdint>
#include <cstring>

namespace tvm_eff {
namespace opencl {
namespace {

constexpr char kMark[] = "// Function: ";
constexpr char kDeclaration[] = "__kernel void ";

// Little endian; counts and lengths are u64.
class Reader {
 public:
  Reader(const char* data, size_t size) : data_(data), left_(size) {}

  template <typename T>
  T Number() {
    T value;
    std::memcpy(&value, Take(sizeof(T)), sizeof(T));
    return value;
  }

  std::string Text() {
    auto size = Count(1);
    return std::string(Take(size), size);
  }

  // How many elements follow, each of which takes some bytes at least.
  size_t Count(size_t least) {
    auto count = Number<uint64_t>();
    if (count > left_ / least) Fail();
    return static_cast<size_t>(count);
  }

 private:
  const char* Take(size_t size) {
    if (size > left_) Fail();
    const char* taken = data_;
    data_ += size;
    left_ -= size;
    return taken;
  }

  [[noreturn]] static void Fail() {
    TVM_FFI_THROW(RuntimeError)
        << "OpenCL: the library's OpenCL module is damaged, or was made by another version of "
           "TVM than the one that loads it; build it again";
    TVM_FFI_UNREACHABLE();
  }

  const char* data_;
  size_t left_;
};

KernelInfo ReadKernel(Reader* reader) {
  KernelInfo kernel;
  kernel.name = reader->Text();
  kernel.argument_types.resize(reader->Count(4));
  for (DLDataType& type : kernel.argument_types) {
    type.code = reader->Number<uint8_t>();
    type.bits = reader->Number<uint8_t>();
    type.lanes = reader->Number<uint16_t>();
  }
  kernel.launch_tags.resize(reader->Count(8));
  for (std::string& tag : kernel.launch_tags) tag = reader->Text();
  // Marks of arguments that only CUDA has.
  for (size_t i = reader->Count(4); i > 0; --i) reader->Number<int32_t>();
  return kernel;
}

std::string WithoutDeclarations(const std::string& section) {
  std::string kept;
  for (size_t start = 0; start < section.size();) {
    size_t end = section.find('\n', start);
    if (end == std::string::npos) end = section.size();
    bool declares = section.compare(start, sizeof(kDeclaration) - 1, kDeclaration) == 0 &&
                    end > start && section[end - 1] == ';';
    if (!declares) kept.append(section, start, end - start).push_back('\n');
    start = end + 1;
  }
  return kept;
}

}  // namespace

ModuleSource ParseModule(const char* data, size_t size) {
  Reader reader(data, size);
  std::string format = reader.Text();
  if (format != "cl") {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: a module in the format '" << format
                                << "' cannot be loaded, only OpenCL C ('cl'); build the library "
                                   "for the target kind 'opencl'";
  }
  ModuleSource module;
  for (size_t i = reader.Count(8); i > 0; --i) {
    std::string key = reader.Text();
    module.kernels.emplace(std::move(key), ReadKernel(&reader));
  }
  module.text = reader.Text();
  return module;
}

std::map<std::string, std::string> SplitKernels(const ModuleSource& module) {
  std::map<std::string, std::string> sources;
  size_t start = module.text.find(kMark);
  while (start != std::string::npos) {
    size_t next = module.text.find(kMark, start + 1);
    std::string section = module.text.substr(start, next - start);
    size_t name = sizeof(kMark) - 1;
    size_t end = section.find_first_of("\r\n", name);
    if (end == std::string::npos) break;
    sources[section.substr(name, end - name)] = WithoutDeclarations(section);
    start = next;
  }
  for (const auto& [key, kernel] : module.kernels) {
    if (sources.count(kernel.name) == 0) sources[kernel.name] = module.text;
  }
  return sources;
}

}  // namespace opencl
}  // namespace tvm_eff
