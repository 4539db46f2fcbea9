/* The functions of CUDA's driver library that mlpack_runtime.cuda_driver calls, over ordinary memory: no GPU, no NVIDIA.
 *
 * Copies are queued and carried out when the stream is waited for, or when the fake TensorRT starts a call on it: code that reads too
 * early reads zeros. Copies and allocations need a current context in their thread. After a sticky error everything fails with it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct { void *to; const void *from; size_t size; } Copy;

static Copy queue[1024];
static int queued, sticky, live_device, live_host, streams, retained;
static size_t limit = (size_t)1 << 30, used;
static char fail_name[64];
static int fail_code, fail_after;
static _Thread_local void *current;
static struct { void *at; size_t size; } blocks[4096];

static int step(const char *name) {
    if (sticky) return sticky;
    if (fail_code && strcmp(name, fail_name) == 0 && fail_after-- <= 0) {
        int code = fail_code;
        fail_code = 0;
        if (code >= 700 && code < 720 && code != 701) sticky = code;
        return code;
    }
    return 0;
}

/* For tests. */
void fake_reset(void) { queued = sticky = live_device = live_host = streams = retained = 0; used = 0; limit = (size_t)1 << 30; fail_code = 0; memset(blocks, 0, sizeof blocks); }
void fake_fail(const char *name, int code, int after) { strncpy(fail_name, name, 63); fail_code = code; fail_after = after; }
void fake_limit(size_t bytes) { limit = bytes; }
int fake_live(void) { return live_device + live_host + streams + retained; }
void fake_flush(void) {
    for (int i = 0; i < queued; i++) memcpy(queue[i].to, queue[i].from, queue[i].size);
    queued = 0;
}

int cuInit(unsigned flags) { (void)flags; return step("cuInit"); }
int cuDriverGetVersion(int *version) { *version = 12040; return step("cuDriverGetVersion"); }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return step("cuDeviceGet"); }
int cuDeviceGetName(char *name, int size, int device) { (void)device; strncpy(name, "Imitation L4", size); return step("cuDeviceGetName"); }
int cuDeviceGetAttribute(int *value, int attribute, int device) { (void)device; *value = attribute == 75 ? 8 : 9; return step("cuDeviceGetAttribute"); }
int cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; *context = &retained; retained++; return step("cuDevicePrimaryCtxRetain"); }
int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; retained--; return step("cuDevicePrimaryCtxRelease_v2"); }
int cuCtxSetCurrent(void *context) { current = context; return step("cuCtxSetCurrent"); }

int cuMemAlloc_v2(uint64_t *address, size_t size) {
    int code = step("cuMemAlloc_v2");
    if (code) return code;
    if (!current) return 201;
    if (used + size > limit) return 2;
    void *at = calloc(1, size);
    for (int i = 0; i < 4096; i++) if (!blocks[i].at) { blocks[i].at = at; blocks[i].size = size; break; }
    used += size; live_device++;
    *address = (uint64_t)(uintptr_t)at;
    return 0;
}
int cuMemFree_v2(uint64_t address) {
    for (int i = 0; i < 4096; i++) if (blocks[i].at == (void *)(uintptr_t)address) {
        used -= blocks[i].size; blocks[i].at = NULL; live_device--; free((void *)(uintptr_t)address);
        return step("cuMemFree_v2");
    }
    return 1;
}
int cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    (void)flags;
    int code = step("cuMemHostAlloc");
    if (code) return code;
    if (!current) return 201;
    *address = calloc(1, size); live_host++;
    return 0;
}
int cuMemFreeHost(void *address) { free(address); live_host--; return step("cuMemFreeHost"); }

static int later(const char *name, void *to, const void *from, size_t size) {
    int code = step(name);
    if (code) return code;
    if (!current) return 201;
    queue[queued].to = to; queue[queued].from = from; queue[queued++].size = size;
    return 0;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) { (void)stream; return later("cuMemcpyHtoDAsync_v2", (void *)(uintptr_t)to, from, size); }
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) { (void)stream; return later("cuMemcpyDtoHAsync_v2", to, (void *)(uintptr_t)from, size); }
int cuStreamCreate(void **stream, unsigned flags) { (void)flags; *stream = &streams; streams++; return step("cuStreamCreate"); }
int cuStreamDestroy_v2(void *stream) { (void)stream; streams--; return step("cuStreamDestroy_v2"); }
int cuStreamSynchronize(void *stream) { (void)stream; int code = step("cuStreamSynchronize"); if (!code) fake_flush(); return code; }

int cuGetErrorName(int code, const char **text) { *text = code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : code == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_OF_SOME_KIND"; return 0; }
int cuGetErrorString(int code, const char **text) { (void)code; *text = "as the test asked"; return 0; }
