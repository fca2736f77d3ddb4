/* What the processor can do, as it says itself. */
#ifndef TVM_EFF_PROCESSOR_H
#define TVM_EFF_PROCESSOR_H

/* Whether it has a feature, by its name in Linux's /proc/cpuinfo; 0 for names that are not known. */
int tvm_eff_has_feature(const char *name);

#endif
