// Executes the tile instructions of Intel's AMX (AMX-TILE, AMX-INT8) where the processor has none.
//
// A processor without them raises SIGILL, whose handler computes what Intel's Software Developer's
// Manual, volume 2, says of the instruction and goes on behind it. What is no use of tiles that the
// manual allows ends the process. Preloaded, it also answers for Linux, which has to be asked for the
// tiles before they are used.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define TILES 8
#define ROWS 16
#define ROW_BYTES 64
#define ARCH_REQ_XCOMP_PERM 0x1023
#define XTILEDATA 18

// "LDTILECFG": palette 1 in the first byte, bytes of a row from 16 on, rows from 48 on.
static __thread struct {
    int configured;
    uint16_t row_bytes[TILES];
    uint8_t rows[TILES];
    uint8_t data[TILES][ROWS][ROW_BYTES];
} tiles;
static int granted;

static void fail(const char *what) {
    fprintf(stderr, "amx_emulator: %s\n", what);
    abort();
}

static long ask_linux(long number, const long *a) {
    long result;
    register long r10 __asm__("r10") = a[3];
    register long r8 __asm__("r8") = a[4];
    register long r9 __asm__("r9") = a[5];
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    if (result >= 0 || result <= -4096) return result;
    errno = (int)-result;
    return -1;
}

static long emulated(long number, ...) {
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    long result = ask_linux(number, a);
    if (number != SYS_arch_prctl || a[0] != ARCH_REQ_XCOMP_PERM || a[1] != XTILEDATA) return result;
    granted = 1;
    return 0;
}

long syscall(long number, ...) __attribute__((alias("emulated")));

static int is_preloaded(void) { return dlsym(RTLD_DEFAULT, "syscall") == (void *)emulated; }

static void require(int condition, const char *what) {
    if (!condition) fail(what);
}

static void configure(const uint8_t *from) {
    require(from[0] == 1, "LDTILECFG of a palette that is not 1");
    require(from[1] == 0, "LDTILECFG with a start row");
    memset(&tiles, 0, sizeof tiles);
    for (int i = 0; i < TILES; i++) {
        memcpy(&tiles.row_bytes[i], from + 16 + 2 * i, 2);
        tiles.rows[i] = from[48 + i];
        require(tiles.row_bytes[i] <= ROW_BYTES && tiles.rows[i] <= ROWS, "a tile that is too large");
        require((tiles.row_bytes[i] == 0) == (tiles.rows[i] == 0), "a tile without rows or bytes");
    }
    tiles.configured = 1;
}

// TDPBUSD: bytes without a sign of the first source times those with one of the second.
static void dot_products(int to, int one, int other) {
    require(tiles.rows[to] == tiles.rows[one] && tiles.row_bytes[to] == tiles.row_bytes[other] &&
                tiles.row_bytes[one] == 4 * tiles.rows[other] && tiles.rows[to] != 0,
            "TDPBUSD of tiles whose shapes do not fit");
    for (int m = 0; m < tiles.rows[to]; m++) {
        int32_t sums[ROW_BYTES / 4];
        memcpy(sums, tiles.data[to][m], sizeof sums);
        for (int k = 0; k < tiles.rows[other]; k++) {
            const uint8_t *a = &tiles.data[one][m][4 * k];
            for (int n = 0; n < tiles.row_bytes[to] / 4; n++) {
                const int8_t *b = (const int8_t *)&tiles.data[other][k][4 * n];
                sums[n] += a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
            }
        }
        memset(tiles.data[to][m], 0, ROW_BYTES);
        memcpy(tiles.data[to][m], sums, tiles.row_bytes[to]);
    }
}

// The instruction's operands, by the manual's chapter 2.
struct operands {
    int reg, rm, vvvv, is_register;
    uint8_t *base;
    int64_t stride;
    int length;
};

static struct operands decode(const uint8_t *at, const greg_t *registers) {
    static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                  REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                  REG_R12, REG_R13, REG_R14, REG_R15};
    int x = !(at[1] & 0x40), b = !(at[1] & 0x20), mod = at[4] >> 6;
    struct operands found = {(at[4] >> 3) & 7, at[4] & 7, (~at[2] >> 3) & 15, mod == 3, NULL, 0, 5};
    if (found.is_register) return found;
    int64_t address = 0;
    int relative = 0;
    if (found.rm == 4) {
        int scale = at[5] >> 6, index = ((at[5] >> 3) & 7) | x << 3, base = at[5] & 7;
        found.length = 6;
        if (index != 4) found.stride = (int64_t)registers[order[index]] << scale;
        require(base != 5 || mod != 0, "an address without a base");
        address = registers[order[base | b << 3]];
    } else {
        relative = found.rm == 5 && mod == 0;
        if (!relative) address = registers[order[found.rm | b << 3]];
    }
    if (mod == 1) {
        address += (int8_t)at[found.length];
        found.length += 1;
    } else if (mod == 2 || relative) {
        int32_t displacement;
        memcpy(&displacement, at + found.length, 4);
        address += displacement;
        found.length += 4;
    }
    if (relative) address += (int64_t)at + found.length;
    found.base = (uint8_t *)address;
    return found;
}

static void load(int tile, const struct operands *from) {
    require(tiles.rows[tile] != 0, "a load of a tile that is not configured");
    memset(tiles.data[tile], 0, sizeof tiles.data[tile]);
    for (int row = 0; row < tiles.rows[tile]; row++)
        memcpy(tiles.data[tile][row], from->base + row * from->stride, tiles.row_bytes[tile]);
}

static void store(int tile, const struct operands *to) {
    require(tiles.rows[tile] != 0, "a store of a tile that is not configured");
    for (int row = 0; row < tiles.rows[tile]; row++)
        memcpy(to->base + row * to->stride, tiles.data[tile][row], tiles.row_bytes[tile]);
}

enum { NONE, P66, PF3, PF2 };

// Returns whether it was an instruction of these.
static int execute(const uint8_t *at, greg_t *registers) {
    if (at[0] != 0xC4 || (at[1] & 0x1F) != 2 || at[2] & 0x84) return 0;
    int prefix = at[2] & 3, opcode = at[3];
    struct operands of = decode(at, registers);
    if (opcode == 0x49 && prefix == NONE && !of.is_register) {
        require(granted || !is_preloaded(), "LDTILECFG before Linux was asked for the tiles");
        configure(of.base);
        registers[REG_RIP] += of.length;
        return 1;
    }
    if (opcode != 0x49 && opcode != 0x4B && opcode != 0x5E) return 0;
    require(tiles.configured, "tiles used before LDTILECFG");
    if (opcode == 0x49 && prefix == NONE && at[4] == 0xC0)
        memset(&tiles, 0, sizeof tiles);  // TILERELEASE
    else if (opcode == 0x49 && prefix == PF2 && of.is_register)
        memset(tiles.data[of.reg], 0, sizeof tiles.data[0]);  // TILEZERO
    else if (opcode == 0x4B && (prefix == PF2 || prefix == P66))
        load(of.reg, &of);  // TILELOADD, TILELOADDT1
    else if (opcode == 0x4B && prefix == PF3)
        store(of.reg, &of);  // TILESTORED
    else if (opcode == 0x5E && prefix == P66 && of.is_register)
        dot_products(of.reg, of.rm, of.vvvv);
    else
        return 0;
    registers[REG_RIP] += of.length;
    return 1;
}

static void on_illegal(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)info;
    if (execute((const uint8_t *)registers[REG_RIP], registers)) return;
    signal(number, SIG_DFL);
}

static struct sigaction before;

int amx_emulator_install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_illegal;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    return sigaction(SIGILL, &action, &before);
}

int amx_emulator_remove(void) { return sigaction(SIGILL, &before, NULL); }

__attribute__((constructor)) static void at_load(void) {
    if (is_preloaded()) amx_emulator_install();
}
