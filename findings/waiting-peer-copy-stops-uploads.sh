#!/bin/sh
# Streams are independent, and so are contexts, one expects: a copy from GPU 0 to GPU 1 that waits
# in a stream of GPU 1 for an event of GPU 0 should concern nobody else. It stops copies from the
# host to GPU 0 that are made in another context of that GPU, until the event comes. Where the event
# stands behind such a copy (a command that crosses on a lane of its own context and goes on to the
# second GPU from there), it never comes, and no call fails. Copies in GPU 0's primary context, or
# to GPU 1, are made at once.
# Seen on two NVIDIA H200 (NVLink), driver 580.159.04: an upload of 4 KiB was not made within 3 s.
# Needs two GPUs that reach each other, and python3; nothing is installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/peers.py" <<'PY'
import ctypes
import time
from ctypes import byref, c_int, c_uint, c_uint64, c_void_p

driver = ctypes.CDLL('libcuda.so.1')
NOT_READY, NON_BLOCKING, NO_TIMES, PORTABLE_AND_MAPPED = 600, 1, 2, 3
LIMIT_SECONDS = 3


def call(name, *args):
    status = getattr(driver, name)(*args)
    assert status == 0, f'{name}: error {status}'


def made(kind, name, *args):
    out = kind()
    call(name, byref(out), *args)
    return out


def enter(context):
    call('cuCtxSetCurrent', context)


call('cuInit', 0)
contexts, memories = [], []
for gpu in range(2):
    contexts.append(made(c_void_p, 'cuDevicePrimaryCtxRetain', gpu))
    enter(contexts[gpu])
    memories.append(made(c_uint64, 'cuMemAlloc_v2', ctypes.c_size_t(1 << 20)))
for gpu in range(2):
    enter(contexts[gpu])
    call('cuCtxEnablePeerAccess', contexts[1 - gpu], 0)
enter(contexts[0])
host = made(c_void_p, 'cuMemHostAlloc', ctypes.c_size_t(8192), PORTABLE_AND_MAPPED)
flag = ctypes.cast(host, ctypes.POINTER(c_uint))
flag_on_gpu = made(c_uint64, 'cuMemHostGetDevicePointer_v2', host, 0)
own = made(c_void_p, 'cuCtxCreate_v2', 0, 0)


def upload_seconds(context, gpu):
    enter(context)
    stream = made(c_void_p, 'cuStreamCreate', NON_BLOCKING)
    to, source = c_uint64(memories[gpu].value + 4096), c_void_p(host.value + 4096)
    started = time.monotonic()
    call('cuMemcpyHtoDAsync_v2', to, source, ctypes.c_size_t(4096), stream)
    while driver.cuStreamQuery(stream) == NOT_READY:
        if time.monotonic() - started > LIMIT_SECONDS:
            break
    took = time.monotonic() - started
    flag[0] = 1
    call('cuStreamSynchronize', stream)
    return took


def is_stopped(context, gpu, copies_between):
    """Whether an upload waits while a copy between the GPUs waits for an event of GPU 0."""
    flag[0] = 0
    enter(contexts[1])
    second = made(c_void_p, 'cuStreamCreate', NON_BLOCKING)
    enter(contexts[0])
    first = made(c_void_p, 'cuStreamCreate', NON_BLOCKING)
    event = made(c_void_p, 'cuEventCreate', NO_TIMES)
    call('cuStreamWaitValue32_v2', first, flag_on_gpu, c_uint(1), 0)
    call('cuEventRecord', event, first)
    enter(contexts[1])
    call('cuStreamWaitEvent', second, event, 0)
    if copies_between:
        to, source = (memories[1], contexts[1]), (memories[0], contexts[0])
        call('cuMemcpyPeerAsync', *to, *source, ctypes.c_size_t(512), second)
    took = upload_seconds(context, gpu)
    enter(contexts[1])
    call('cuStreamSynchronize', second)
    return took > LIMIT_SECONDS


name = ctypes.create_string_buffer(99)
call('cuDeviceGetName', name, 99, 0)
print(f'two {name.value.decode()}')
for context, gpu in [(own, 0), (contexts[0], 0), (contexts[1], 1)]:
    upload_seconds(context, gpu)
cases = [
    ('no copy between them waits, a context of its own on GPU 0', own, 0, False, False),
    ('a copy to GPU 1 waits, a context of its own on GPU 0', own, 0, True, True),
    ("a copy to GPU 1 waits, GPU 0's primary context", contexts[0], 0, True, False),
    ("a copy to GPU 1 waits, GPU 1's primary context", contexts[1], 1, True, False),
]
for title, context, gpu, copies_between, expected in cases:
    stopped = is_stopped(context, gpu, copies_between)
    print(f'{title}: the upload is {"not made in 3 s" if stopped else "made at once"}')
    assert stopped == expected, 'not what was found'
PY
python3 "$folder/peers.py"
