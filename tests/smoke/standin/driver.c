// Stands in for NVIDIA's driver where no GPU is: it says what a driver would, and computes nothing.
#include <stdlib.h>
#include <string.h>
int cuInit(unsigned f) { return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, "Stand-in", n); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 9 : 0; return 0; }
int cuPointerGetAttribute(unsigned *kind, int a, unsigned long long p) { *kind = getenv("ON_HOST") ? 1 : 2; return 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { return 0; }
int cuCtxPushCurrent_v2(void *c) { return 0; }
int cuCtxPopCurrent_v2(void **c) { return 0; }
int cuMemGetInfo_v2(size_t *f, size_t *t) { *f = 1; *t = 2; return 0; }
