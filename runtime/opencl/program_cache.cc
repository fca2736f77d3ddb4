#include "program_cache.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

namespace tvm_eff {
namespace opencl {
namespace {

namespace fs = std::filesystem;

// Names the folder; "off" means that there is no cache.
constexpr const char* kFolderVariable = "TVM_EFF_OPENCL_CACHE";
constexpr char kMagic[] = "tvm_eff OpenCL program 1\n";
constexpr uintmax_t kMostBytes = uintmax_t{256} << 20;
constexpr int kWritesBetweenPrunings = 64;

// FNV-1a.
uint64_t Hash(const std::string& text) {
  uint64_t hash = 14695981039346656037u;
  for (unsigned char c : text) hash = (hash ^ c) * 1099511628211u;
  return hash;
}

const char* Variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

std::optional<fs::path> Folder() {
  if (const char* named = Variable(kFolderVariable)) {
    if (std::strcmp(named, "off") == 0) return std::nullopt;
    return fs::path(named);
  }
  if (const char* cache = Variable("TVM_EFF_CACHE")) return fs::path(cache) / "opencl_programs";
  if (const char* cache = Variable("XDG_CACHE_HOME")) {
    return fs::path(cache) / "tvm_eff" / "opencl_programs";
  }
  if (const char* home = Variable("HOME")) {
    return fs::path(home) / ".cache" / "tvm_eff" / "opencl_programs";
  }
  return std::nullopt;
}

fs::path FileOf(const fs::path& folder, const std::string& key) {
  std::ostringstream name;
  name << std::hex << Hash(key) << ".bin";
  return folder / name.str();
}

void AppendNumber(std::string* text, uint64_t number) {
  text->append(reinterpret_cast<const char*>(&number), sizeof(number));
}

// What the file of a key starts with, up to the binary: another key with the same hash differs.
std::string Header(const std::string& key) {
  std::string header = kMagic;
  AppendNumber(&header, key.size());
  return header + key;
}

// The oldest files go when all together are too large.
void Prune(const fs::path& folder) {
  std::error_code error;
  std::vector<std::pair<fs::file_time_type, fs::path>> files;
  uintmax_t total = 0;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    total += entry.file_size(error);
    files.emplace_back(entry.last_write_time(error), entry.path());
  }
  if (total <= kMostBytes) return;
  std::sort(files.begin(), files.end());
  for (const auto& [time, path] : files) {
    if (total <= kMostBytes / 2) return;
    uintmax_t size = fs::file_size(path, error);
    if (fs::remove(path, error)) total -= std::min(total, size);
  }
}

}  // namespace

std::optional<std::string> ReadCachedProgram(const std::string& key) {
  auto folder = Folder();
  if (!folder) return std::nullopt;
  std::ifstream file(FileOf(*folder, key), std::ios::binary);
  if (!file) return std::nullopt;
  std::ostringstream buffer;
  buffer << file.rdbuf();
  const std::string content = buffer.str(), header = Header(key);
  uint64_t hash = 0;
  if (content.size() < header.size() + sizeof(hash)) return std::nullopt;
  if (content.compare(0, header.size(), header) != 0) return std::nullopt;
  std::memcpy(&hash, content.data() + header.size(), sizeof(hash));
  std::string binary = content.substr(header.size() + sizeof(hash));
  if (Hash(binary) != hash) return std::nullopt;
  return binary;
}

void WriteCachedProgram(const std::string& key, const std::string& binary) {
  static std::atomic<int> writes{0};
  auto folder = Folder();
  if (!folder || binary.empty()) return;
  std::error_code error;
  fs::create_directories(*folder, error);
  const int number = writes++;
  if (number % kWritesBetweenPrunings == 0) Prune(*folder);
  const fs::path path = FileOf(*folder, key);
  fs::path unfinished = path;
  unfinished += "." + std::to_string(getpid()) + "." + std::to_string(number);
  std::string content = Header(key);
  AppendNumber(&content, Hash(binary));
  content += binary;
  {
    std::ofstream file(unfinished, std::ios::binary | std::ios::trunc);
    file.write(content.data(), static_cast<std::streamsize>(content.size()));
    file.close();
    if (!file) {
      fs::remove(unfinished, error);
      return;
    }
  }
  fs::rename(unfinished, path, error);
  if (error) fs::remove(unfinished, error);
}

}  // namespace opencl
}  // namespace tvm_eff
