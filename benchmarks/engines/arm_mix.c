/* Counts what a 64-bit Arm guest executes, for a host process that watches.
 *
 * Argument: counter=PATH, a file of at least four 64-bit counts: all instructions,
 * vector multiply-adds, loads, stores. It is mapped shared, as by the counter of
 * runtime/qemu_plugin, which counts no kinds and is faster. A load or store of
 * several registers counts once; what multiplies bytes or sums their products is a
 * multiply-add.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What is used of qemu's plugin interface, version 1: Debian ships no header for it. */
typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef void (*qemu_plugin_tb_callback)(qemu_plugin_id_t, struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, qemu_plugin_tb_callback);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *,
                                              uint64_t);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;

enum kind { ALL, MULTIPLY_ADD, LOAD, STORE, KINDS };

static uint64_t *executed;

/* The encodings are those of the Arm Architecture Reference Manual, C4.1. */
static const struct {
  uint32_t mask, code;
} multiply_adds[] = {
    {0xbf20fc00, 0x0e20cc00}, /* FMLA, FMLS (vector) */
    {0xbf60fc00, 0x0e400c00}, /* the same, half precision */
    {0xbf80b400, 0x0f801000}, /* FMLA, FMLS (by element) */
    {0xbfc0b400, 0x0f001000}, /* the same, half precision */
    {0x9fe0fc00, 0x0e809400}, /* SDOT, UDOT (vector) */
    {0x9fc0f400, 0x0f80e000}, /* SDOT, UDOT (by element) */
    {0x9f20dc00, 0x0e208000}, /* SMLAL, SMLSL, UMLAL, UMLSL (vector) */
    {0x9f20fc00, 0x0e20c000}, /* SMULL, UMULL (vector) */
    {0x9f00b400, 0x0f002000}, /* SMLAL, SMLSL, UMLAL, UMLSL (by element) */
    {0x9f00f400, 0x0f00a000}, /* SMULL, UMULL (by element) */
    {0x9f3ffc00, 0x0e206800}, /* SADALP, UADALP */
};

static int is_multiply_add(uint32_t code) {
  for (size_t i = 0; i < sizeof multiply_adds / sizeof *multiply_adds; ++i)
    if ((code & multiply_adds[i].mask) == multiply_adds[i].code) return 1;
  return 0;
}

/* Loads, stores and prefetches of one register: LDR, LDUR, STR and so on. */
static enum kind register_access(uint32_t code) {
  uint32_t size = code >> 30, vector = code >> 26 & 1, op = code >> 22 & 3;
  if (op == 0 || (vector && size == 0 && op == 2)) return STORE;
  return !vector && size == 3 && op == 2 ? ALL : LOAD;
}

static enum kind memory_access(uint32_t code) {
  if ((code & 0x0a000000) != 0x08000000) return ALL;
  if ((code & 0x3b000000) == 0x18000000) return code >> 30 == 3 ? ALL : LOAD; /* literal */
  if ((code & 0x3a000000) == 0x38000000) return register_access(code);
  /* Pairs, exclusive accesses and structures say it in bit 22. */
  return code & 1u << 22 ? LOAD : STORE;
}

static void count_block(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  uint64_t counts[KINDS] = {qemu_plugin_tb_n_insns(block)};
  for (size_t i = 0; i < counts[ALL]; ++i) {
    uint32_t code;
    memcpy(&code, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), sizeof code);
    enum kind kind = is_multiply_add(code) ? MULTIPLY_ADD : memory_access(code);
    if (kind != ALL) ++counts[kind];
  }
  for (int kind = 0; kind < KINDS; ++kind)
    if (counts[kind] > 0)
      qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, executed + kind,
                                               counts[kind]);
}

static int map_counter(const char *path) {
  int file = open(path, O_RDWR | O_CLOEXEC);
  if (file < 0) return -1;
  executed = mmap(NULL, KINDS * sizeof *executed, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  return executed == MAP_FAILED ? -1 : 0;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc,
                               char **argv) {
  (void)info;
  if (argc != 1 || strncmp(argv[0], "counter=", 8) != 0) {
    fprintf(stderr, "the counter plugin takes one argument, counter=PATH\n");
    return -1;
  }
  if (map_counter(argv[0] + 8) != 0) {
    perror(argv[0] + 8);
    return -1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, count_block);
  return 0;
}
