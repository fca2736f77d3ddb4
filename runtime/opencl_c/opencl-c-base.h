// What clang includes before OpenCL C, as far as TVM's code generator uses it: clang declares the
// functions of OpenCL by itself once these types are known, and zig's clang lacks its own file.
#ifndef TVM_EFF_OPENCL_C_BASE_H_
#define TVM_EFF_OPENCL_C_BASE_H_

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;
typedef __INTPTR_TYPE__ intptr_t;
typedef __UINTPTR_TYPE__ uintptr_t;

#define TVM_EFF_VECTORS(type)                                \
  typedef type type##2 __attribute__((ext_vector_type(2)));  \
  typedef type type##3 __attribute__((ext_vector_type(3)));  \
  typedef type type##4 __attribute__((ext_vector_type(4)));  \
  typedef type type##8 __attribute__((ext_vector_type(8)));  \
  typedef type type##16 __attribute__((ext_vector_type(16)));

TVM_EFF_VECTORS(char)
TVM_EFF_VECTORS(uchar)
TVM_EFF_VECTORS(short)
TVM_EFF_VECTORS(ushort)
TVM_EFF_VECTORS(int)
TVM_EFF_VECTORS(uint)
TVM_EFF_VECTORS(long)
TVM_EFF_VECTORS(ulong)
TVM_EFF_VECTORS(float)
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
TVM_EFF_VECTORS(half)
#pragma OPENCL EXTENSION cl_khr_fp16 : disable
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
TVM_EFF_VECTORS(double)
#pragma OPENCL EXTENSION cl_khr_fp64 : disable

// Functions of pointers name the address space, as in every version before 3.0.
#define __opencl_c_named_address_space_builtins 1

typedef uint cl_mem_fence_flags;
#define CLK_LOCAL_MEM_FENCE 1
#define CLK_GLOBAL_MEM_FENCE 2

#define INFINITY (__builtin_inff())
#define NAN (__builtin_nanf(""))

#endif  // TVM_EFF_OPENCL_C_BASE_H_
