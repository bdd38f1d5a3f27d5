#!/bin/sh
# A matrix product is queued and returns, so one expects of cuBLAS. The first product of a shape
# does not always: where the library picks a kernel that has not run in the process yet, the driver
# loads it (lazily, which is the default), and before it does it waits until the GPU is idle. The
# thread that launches stands for as long as all that is queued takes. Shapes that differ by one
# line, as the batch of an inference server does from step to step, get there again and again; the
# second product of each returns at once. Warming up one shape, or sixteen, does not help the next.
# Seen with torch 2.11.0+cu130 on an NVIDIA H200, driver 580.159.04, behind 50 ms of queued work:
#   of 128 sizes seen first 36 waited, 41 ms at most; seen again 0.4 ms at most.
# Needs an NVIDIA GPU; torch 2.11.0 is installed in a temporary folder where it is not there.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
if ! python3 -c 'import torch; assert torch.__version__.split("+")[0] == "2.11.0"' 2>/dev/null; then
  python3 -m pip install --quiet --target "$folder/packages" torch==2.11.0
  export PYTHONPATH="$folder/packages"
fi
cat > shapes.py <<'PY'
import time

import torch

QUEUED_SECONDS = 0.05
width, outputs = 4096, 32768
lines = torch.randn(512, width, device='cuda', dtype=torch.bfloat16)
weight = torch.randn(outputs, width, device='cuda', dtype=torch.bfloat16).t()
for count in range(1, 17):
    lines[:count] @ weight
torch.cuda.synchronize()
started = time.perf_counter()
torch.cuda._sleep(100_000_000)
torch.cuda.synchronize()
cycles_per_second = 100_000_000 / (time.perf_counter() - started)


def seconds_to_queue(count):
    torch.cuda._sleep(int(QUEUED_SECONDS * cycles_per_second))
    started = time.perf_counter()
    lines[:count] @ weight
    seconds = time.perf_counter() - started
    torch.cuda.synchronize()
    return seconds


counts = range(17, 400, 3)
first = [seconds_to_queue(count) for count in counts]
again = [seconds_to_queue(count) for count in counts]
waited = [seconds for seconds in first if seconds > QUEUED_SECONDS / 2]
print(f'{torch.cuda.get_device_name()}, torch {torch.__version__}')
print(f'of {len(first)} sizes seen first, {len(waited)} waited, {max(first) * 1e3:.0f} ms at most')
print(f'seen again: {max(again) * 1e3:.1f} ms at most')
assert len(waited) >= 3 and max(again) < QUEUED_SECONDS / 2, 'not what was found'
PY
python3 shapes.py
