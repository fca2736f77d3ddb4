/* Are a bundle's files as they were written? Asked before the system's loader trusts one. */
#ifndef TVM_EFF_RUN_FILES_H
#define TVM_EFF_RUN_FILES_H

#define LIBRARY_FILE "model.so"
#define GOLDEN_FILE "golden.npz"
#define MANIFEST_FILE "manifest.json"
#define SUMS_FILE "SHA256SUMS"
#define MOST_PATH 4096

/* Join a folder and a name; 0 if that is too long. */
int join_path(char path[MOST_PATH], const char *folder, const char *name);

/* Refuse a folder that is no bundle, is of a newer format, of another architecture, or is not as
 * its SHA256SUMS says; returns an exit code. */
int check_files(const char *folder);

#endif
