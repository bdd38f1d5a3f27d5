/*
 * libnvfm without Fabric Manager: NVIDIA's ABI over a partition table in a text file, so that
 * processes share one fabric, and any of them can restart it or plant a fault. README.md has the
 * file's format. Every call takes the file's lock, reads it, acts and writes it back.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum {
  OK = 0, BADPARAM = -1, GENERIC = -2, UNINITIALIZED = -4, TIMEOUT = -5, VERSION = -6, IN_USE = -7,
  NOT_CONFIGURED = -8, NO_CONNECTION = -9, NOT_READY = -22, ROUTES = -29
};
enum { GPUS_MAX = 16, PARTITIONS_MAX = 64, LINE_MAX_BYTES = 1024 };

typedef struct {
  uint32_t physicalId;
  char uuid[80], pciBusId[32];
  uint32_t linksAvailable, linksMax, lineRateMBps;
} Gpu;
typedef struct { uint32_t id, isActive, numGpus; Gpu gpus[GPUS_MAX]; } PartitionInfo;
typedef struct { uint32_t version, num, max; PartitionInfo info[PARTITIONS_MAX]; } PartitionList;
typedef struct { uint32_t version, num, ids[PARTITIONS_MAX]; } ActivatedList;
typedef struct { uint32_t version; char address[256]; uint32_t timeoutMs, isUnix, type; } Connect;

#define VERSION_OF(type, version) ((uint32_t)(sizeof(type) | ((version) << 24)))
_Static_assert(sizeof(Gpu) == 128 && sizeof(PartitionInfo) == 2060, "as NVIDIA's header");
_Static_assert(sizeof(PartitionList) == 131852 && sizeof(ActivatedList) == 264, "as its header");
_Static_assert(sizeof(Connect) == 272, "as NVIDIA's header");

typedef struct { uint32_t id, count, modules[GPUS_MAX], isActive, wasActive; } Partition;
typedef struct {
  char phase[16], fault[32];
  uint32_t instance, faults, count;
  Partition partitions[PARTITIONS_MAX];
} Fabric;
typedef struct { uint32_t magic, instance; } Handle;

static const uint32_t MAGIC = 0x6e76666d;
static int initialised;

/* ---- The file ---- */

static int openState(void) {
  const char *path = getenv("NVFM_STUB_STATE");
  int fd = path == NULL ? -1 : open(path, O_RDWR);
  if (fd >= 0) flock(fd, LOCK_EX);
  return fd;
}

static void readPartition(Fabric *fabric, const char *line, int isActive, int wasActive) {
  if (fabric->count == PARTITIONS_MAX) return;
  Partition *partition = &fabric->partitions[fabric->count++];
  memset(partition, 0, sizeof *partition);
  partition->isActive = isActive;
  partition->wasActive = wasActive;
  char *rest;
  partition->id = strtoul(line, &rest, 10);
  while (*rest != '\0' && *rest != '\n' && partition->count < GPUS_MAX) {
    rest += 1;
    partition->modules[partition->count++] = strtoul(rest, &rest, 10);
  }
}

static int readState(int fd, Fabric *fabric) {
  memset(fabric, 0, sizeof *fabric);
  FILE *file = fdopen(dup(fd), "r");
  if (file == NULL) return 0;
  rewind(file);
  char line[LINE_MAX_BYTES];
  while (fgets(line, sizeof line, file) != NULL) {
    unsigned before = 0;
    int from = 0;
    sscanf(line, "phase %15s", fabric->phase);
    sscanf(line, "instance %u", &fabric->instance);
    sscanf(line, "fault %31s %u", fabric->fault, &fabric->faults);
    if (sscanf(line, "inactive was %u %n", &before, &from) == 1) readPartition(fabric, line + from, 0, before);
    if (sscanf(line, "active was %u %n", &before, &from) == 1) readPartition(fabric, line + from, 1, before);
  }
  fclose(file);
  return fabric->phase[0] != '\0';
}

static void writeState(int fd, const Fabric *fabric) {
  if (ftruncate(fd, 0) != 0) return;
  lseek(fd, 0, SEEK_SET);
  dprintf(fd, "phase %s\ninstance %u\n", fabric->phase, fabric->instance);
  if (fabric->faults > 0) dprintf(fd, "fault %s %u\n", fabric->fault, fabric->faults);
  for (uint32_t i = 0; i < fabric->count; i++) {
    const Partition *partition = &fabric->partitions[i];
    dprintf(fd, "%s was %u %u", partition->isActive ? "active" : "inactive", partition->wasActive, partition->id);
    for (uint32_t gpu = 0; gpu < partition->count; gpu++)
      dprintf(fd, "%c%u", gpu == 0 ? ' ' : ',', partition->modules[gpu]);
    dprintf(fd, "\n");
  }
}

/* ---- Faults ---- */

/* Whether the planted fault is this one; it is then used up once. */
static int meets(Fabric *fabric, const char *fault) {
  if (fabric->faults == 0 || strcmp(fabric->fault, fault) != 0) return 0;
  fabric->faults -= 1;
  return 1;
}

static void restart(Fabric *fabric, const char *phase) {
  fabric->instance += 1;
  strcpy(fabric->phase, phase);
  for (uint32_t i = 0; i < fabric->count; i++) {
    fabric->partitions[i].isActive = 0;
    fabric->partitions[i].wasActive = 0;
  }
}

/* The first two of one size trade their modules: what another file would have defined. */
static void changeTable(Fabric *fabric) {
  for (uint32_t i = 0; i < fabric->count; i++)
    for (uint32_t j = i + 1; j < fabric->count; j++)
      if (fabric->partitions[i].count == fabric->partitions[j].count) {
        uint32_t other[GPUS_MAX];
        memcpy(other, fabric->partitions[i].modules, sizeof other);
        memcpy(fabric->partitions[i].modules, fabric->partitions[j].modules, sizeof other);
        memcpy(fabric->partitions[j].modules, other, sizeof other);
        return;
      }
}

/* ---- What calls have in common ---- */

typedef struct { int fd; Fabric fabric; } Call;

static int finish(Call *call, int status) {
  writeState(call->fd, &call->fabric);
  close(call->fd);
  return status;
}

/* 0: go on, with the lock held; else the status, with everything put back. */
static int begin(Call *call, const Handle *handle) {
  if (!initialised) return UNINITIALIZED;
  if (handle == NULL || handle->magic != MAGIC) return BADPARAM;
  call->fd = openState();
  if (call->fd < 0) return NO_CONNECTION;
  Fabric *fabric = &call->fabric;
  if (!readState(call->fd, fabric)) {
    close(call->fd);
    return GENERIC;
  }
  if (meets(fabric, "hang")) {
    finish(call, OK);
    sleep(3600);
  }
  if (meets(fabric, "version-mismatch")) return finish(call, VERSION);
  if (meets(fabric, "not-ready")) return finish(call, NOT_READY);
  if (meets(fabric, "restart-before")) {
    restart(fabric, "serving");
    return finish(call, NO_CONNECTION);
  }
  if (meets(fabric, "restart-to-resume")) {
    restart(fabric, "resuming");
    return finish(call, NO_CONNECTION);
  }
  if (strcmp(fabric->phase, "down") == 0 || fabric->instance != handle->instance)
    return finish(call, NO_CONNECTION);
  return OK;
}

static int isServing(const Call *call) { return strcmp(call->fabric.phase, "serving") == 0; }

static Partition *find(Fabric *fabric, uint32_t id) {
  for (uint32_t i = 0; i < fabric->count; i++)
    if (fabric->partitions[i].id == id) return &fabric->partitions[i];
  return NULL;
}

static int sharesActive(const Fabric *fabric, const Partition *partition) {
  for (uint32_t i = 0; i < fabric->count; i++) {
    const Partition *other = &fabric->partitions[i];
    if (other == partition || !other->isActive) continue;
    for (uint32_t a = 0; a < other->count; a++)
      for (uint32_t b = 0; b < partition->count; b++)
        if (other->modules[a] == partition->modules[b]) return 1;
  }
  return 0;
}

static int change(Handle *handle, uint32_t id, uint32_t isActive) {
  Call call;
  int status = begin(&call, handle);
  if (status != OK) return status;
  Fabric *fabric = &call.fabric;
  if (!isServing(&call)) return finish(&call, NOT_CONFIGURED);
  Partition *partition = find(fabric, id);
  if (partition == NULL) return finish(&call, BADPARAM);
  if (isActive && (partition->isActive || sharesActive(fabric, partition))) return finish(&call, IN_USE);
  if (!isActive && !partition->isActive) return finish(&call, UNINITIALIZED);
  if (meets(fabric, "timeout-before")) return finish(&call, TIMEOUT);
  if (meets(fabric, "no-effect")) return finish(&call, OK);
  if (meets(fabric, "route-error")) return finish(&call, ROUTES);
  partition->wasActive = partition->isActive;
  partition->isActive = isActive;
  if (meets(fabric, "timeout-after")) return finish(&call, TIMEOUT);
  if (meets(fabric, "lost-reply")) return finish(&call, NO_CONNECTION);
  if (meets(fabric, "restart-after")) {
    restart(fabric, "serving");
    return finish(&call, NO_CONNECTION);
  }
  return finish(&call, OK);
}

/* ---- NVIDIA's functions ---- */

int fmLibInit(void) {
  if (initialised) return IN_USE;
  initialised = 1;
  return OK;
}

int fmLibShutdown(void) {
  if (!initialised) return UNINITIALIZED;
  initialised = 0;
  return OK;
}

int fmConnect(Connect *parameters, void **out) {
  if (!initialised) return UNINITIALIZED;
  if (parameters == NULL || out == NULL) return BADPARAM;
  uint32_t first = (uint32_t)(sizeof *parameters - 4) | (1u << 24);
  if (parameters->version != VERSION_OF(Connect, 2) && parameters->version != first) return VERSION;
  int isNew = parameters->version == VERSION_OF(Connect, 2);
  uint32_t type = isNew ? parameters->type : parameters->isUnix ? 2 : 1;
  if (type < 1 || type > 3 || memchr(parameters->address, 0, sizeof parameters->address) == NULL) return BADPARAM;
  if (parameters->address[0] == '\0' || (type == 2) != (parameters->address[0] == '/')) return BADPARAM;
  if (type != 2 && strchr(parameters->address, ':') == NULL) return BADPARAM;
  int fd = openState();
  if (fd < 0) return NO_CONNECTION;
  Fabric fabric;
  int isUp = readState(fd, &fabric) && strcmp(fabric.phase, "down") != 0;
  close(fd);
  Handle *handle = isUp ? malloc(sizeof *handle) : NULL;
  if (handle == NULL) return NO_CONNECTION;
  handle->magic = MAGIC;
  handle->instance = fabric.instance;
  *out = handle;
  return OK;
}

int fmDisconnect(void *pointer) {
  Handle *handle = pointer;
  if (!initialised) return UNINITIALIZED;
  if (handle == NULL || handle->magic != MAGIC) return BADPARAM;
  handle->magic = 0;
  free(handle);
  return OK;
}

int fmGetSupportedFabricPartitions(void *handle, PartitionList *list) {
  if (list == NULL) return BADPARAM;
  if (list->version != VERSION_OF(PartitionList, 1)) return VERSION;
  Call call;
  int status = begin(&call, handle);
  if (status != OK) return status;
  Fabric *fabric = &call.fabric;
  if (!isServing(&call)) return finish(&call, NOT_CONFIGURED);
  if (meets(fabric, "table-changed")) changeTable(fabric);
  int isStale = meets(fabric, "stale-list");
  list->num = fabric->count;
  list->max = fabric->count;
  for (uint32_t i = 0; i < fabric->count; i++) {
    const Partition *partition = &fabric->partitions[i];
    PartitionInfo *info = &list->info[i];
    memset(info, 0, sizeof *info);
    info->id = partition->id;
    info->isActive = isStale ? partition->wasActive : partition->isActive;
    info->numGpus = partition->count;
    for (uint32_t gpu = 0; gpu < partition->count; gpu++) {
      info->gpus[gpu].physicalId = partition->modules[gpu];
      info->gpus[gpu].linksAvailable = partition->count == 1 ? 0 : 18;
      info->gpus[gpu].linksMax = partition->count == 1 ? 0 : 18;
      info->gpus[gpu].lineRateMBps = 26562;
    }
  }
  if (meets(fabric, "partitions-beyond")) list->num = PARTITIONS_MAX + 1;
  if (meets(fabric, "gpus-beyond")) list->info[0].numGpus = GPUS_MAX + 1;
  if (meets(fabric, "module-twice")) list->info[0].gpus[1].physicalId = list->info[0].gpus[0].physicalId;
  return finish(&call, OK);
}

int fmActivateFabricPartition(void *handle, uint32_t id) { return change(handle, id, 1); }

int fmDeactivateFabricPartition(void *handle, uint32_t id) { return change(handle, id, 0); }

int fmSetActivatedFabricPartitions(void *handle, ActivatedList *list) {
  if (list == NULL) return BADPARAM;
  if (list->version != VERSION_OF(ActivatedList, 1)) return VERSION;
  if (list->num > PARTITIONS_MAX) return BADPARAM;
  Call call;
  int status = begin(&call, handle);
  if (status != OK) return status;
  if (strcmp(call.fabric.phase, "resuming") != 0) return finish(&call, -3);
  for (uint32_t i = 0; i < list->num; i++)
    if (find(&call.fabric, list->ids[i]) == NULL) return finish(&call, BADPARAM);
  for (uint32_t i = 0; i < list->num; i++) find(&call.fabric, list->ids[i])->isActive = 1;
  strcpy(call.fabric.phase, "serving");
  return finish(&call, OK);
}
