// How values become bytes: little endian, sizes and counts as u64, enums as i32, structures field
// by field without padding. A VM executable written by TVM on the host is read with this on the
// board, and the RPC protocol is made of it.
#ifndef TVM_EFF_TVM_SUPPORT_SERIALIZER_H_
#define TVM_EFF_TVM_SUPPORT_SERIALIZER_H_

#include <dlpack/dlpack.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/endian.h>
#include <tvm/ffi/string.h>
#include <tvm/support/io.h>

#include <cstdint>
#include <map>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tvm {
namespace support {

static_assert(TVM_FFI_IO_NO_ENDIAN_SWAP, "values are written as they lie in memory");

template <typename T>
struct Serializer<T, std::enable_if_t<std::is_arithmetic_v<T>>> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const T& value) {
    stream->Write(static_cast<const void*>(&value), sizeof(T));
  }
  static bool Read(Stream* stream, T* value) {
    return stream->Read(static_cast<void*>(value), sizeof(T)) == sizeof(T);
  }
};

template <typename T>
struct Serializer<T, std::enable_if_t<std::is_enum_v<T>>> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const T& value) {
    stream->Write<int32_t>(static_cast<int32_t>(value));
  }
  static bool Read(Stream* stream, T* value) {
    int32_t number;
    if (!stream->Read(&number)) return false;
    *value = static_cast<T>(number);
    return true;
  }
};

// Classes that know themselves how to be written, such as VMFuncInfo.
template <typename T>
struct Serializer<T, std::void_t<decltype(std::declval<const T&>().Save(std::declval<Stream*>())),
                                 decltype(std::declval<T&>().Load(std::declval<Stream*>()))>> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const T& value) { value.Save(stream); }
  static bool Read(Stream* stream, T* value) { return value->Load(stream); }
};

template <>
struct Serializer<DLDataType> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const DLDataType& type) {
    stream->Write(type.code);
    stream->Write(type.bits);
    stream->Write(type.lanes);
  }
  static bool Read(Stream* stream, DLDataType* type) {
    return stream->Read(&type->code) && stream->Read(&type->bits) && stream->Read(&type->lanes);
  }
};

template <>
struct Serializer<DLDevice> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const DLDevice& device) {
    stream->Write(device.device_type);
    stream->Write(device.device_id);
  }
  static bool Read(Stream* stream, DLDevice* device) {
    return stream->Read(&device->device_type) && stream->Read(&device->device_id);
  }
};

template <>
struct Serializer<std::string> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const std::string& text) {
    stream->Write<uint64_t>(text.size());
    stream->Write(static_cast<const void*>(text.data()), text.size());
  }
  static bool Read(Stream* stream, std::string* text) {
    uint64_t size;
    if (!stream->Read(&size)) return false;
    text->resize(static_cast<size_t>(size));
    return stream->Read(static_cast<void*>(text->data()), text->size()) == text->size();
  }
};

template <>
struct Serializer<ffi::String> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const ffi::String& text) {
    stream->Write<uint64_t>(text.size());
    stream->Write(static_cast<const void*>(text.data()), text.size());
  }
  static bool Read(Stream* stream, ffi::String* text) {
    std::string read;
    if (!stream->Read(&read)) return false;
    *text = ffi::String(std::move(read));
    return true;
  }
};

template <typename A, typename B>
struct Serializer<std::pair<A, B>> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const std::pair<A, B>& pair) {
    stream->Write(pair.first);
    stream->Write(pair.second);
  }
  static bool Read(Stream* stream, std::pair<A, B>* pair) {
    return stream->Read(&pair->first) && stream->Read(&pair->second);
  }
};

template <typename T>
struct Serializer<std::vector<T>> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const std::vector<T>& values) {
    stream->Write<uint64_t>(values.size());
    stream->WriteArray(values.data(), values.size());
  }
  static bool Read(Stream* stream, std::vector<T>* values) {
    uint64_t count;
    if (!stream->Read(&count)) return false;
    values->resize(static_cast<size_t>(count));
    return stream->ReadArray(values->data(), values->size());
  }
};

template <typename T>
struct Serializer<ffi::Array<T>> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const ffi::Array<T>& values) {
    stream->Write<uint64_t>(values.size());
    for (const T& value : values) stream->Write(value);
  }
  static bool Read(Stream* stream, ffi::Array<T>* values) {
    uint64_t count;
    if (!stream->Read(&count)) return false;
    *values = ffi::Array<T>();
    for (uint64_t i = 0; i < count; ++i) {
      T value;
      if (!stream->Read(&value)) return false;
      values->push_back(value);
    }
    return true;
  }
};

template <typename Map>
struct MapSerializer {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const Map& map) {
    stream->Write<uint64_t>(map.size());
    for (const auto& entry : map) {
      stream->Write(entry.first);
      stream->Write(entry.second);
    }
  }
  static bool Read(Stream* stream, Map* map) {
    uint64_t count;
    if (!stream->Read(&count)) return false;
    map->clear();
    for (uint64_t i = 0; i < count; ++i) {
      std::pair<typename Map::key_type, typename Map::mapped_type> entry;
      if (!stream->Read(&entry)) return false;
      map->insert(std::move(entry));
    }
    return true;
  }
};

template <typename K, typename V>
struct Serializer<std::map<K, V>> : MapSerializer<std::map<K, V>> {};

template <typename K, typename V>
struct Serializer<std::unordered_map<K, V>> : MapSerializer<std::unordered_map<K, V>> {};

template <typename K, typename V>
struct Serializer<ffi::Map<K, V>> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const ffi::Map<K, V>& map) {
    stream->Write<uint64_t>(map.size());
    for (const auto& entry : map) {
      stream->Write<K>(entry.first);
      stream->Write<V>(entry.second);
    }
  }
  static bool Read(Stream* stream, ffi::Map<K, V>* map) {
    uint64_t count;
    if (!stream->Read(&count)) return false;
    *map = ffi::Map<K, V>();
    for (uint64_t i = 0; i < count; ++i) {
      std::pair<K, V> entry;
      if (!stream->Read(&entry)) return false;
      map->Set(entry.first, entry.second);
    }
    return true;
  }
};

}  // namespace support
}  // namespace tvm

#endif  // TVM_EFF_TVM_SUPPORT_SERIALIZER_H_
