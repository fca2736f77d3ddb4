/* Counts the instructions a guest executes, for a host process that watches.
 *
 * Argument: counter=PATH, a file of at least eight bytes. It is mapped shared, so
 * the host reads the count while the guest runs, and a guest that forks goes on
 * counting into the same place.
 *
 * The count is kept by code that qemu puts inline at the start of each
 * translated block. It is not atomic: a guest with one busy thread is counted
 * exactly, several at once are not.
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
struct qemu_info;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef void (*qemu_plugin_tb_callback)(qemu_plugin_id_t, struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, qemu_plugin_tb_callback);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *,
                                              uint64_t);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;

static uint64_t *executed;

static void count_block(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, executed,
                                           qemu_plugin_tb_n_insns(block));
}

static int map_counter(const char *path) {
  int file = open(path, O_RDWR | O_CLOEXEC);
  if (file < 0) return -1;
  executed = mmap(NULL, sizeof *executed, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
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
