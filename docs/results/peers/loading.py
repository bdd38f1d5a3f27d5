"""Loading a checkpoint onto a GPU with safetensors and with transformers.

usage: python3 loading.py <folder> [safetensors] [transformers]
Prints one JSON line for each. Needs torch, safetensors and transformers 5.17.
"""
import glob
import json
import os
import sys
import time

import torch

folder, which = sys.argv[1], sys.argv[2:] or ["safetensors", "transformers"]
torch.zeros(1, device="cuda")
files = sorted(glob.glob(os.path.join(folder, "*.safetensors")))
total = sum(os.path.getsize(file) for file in files)


def report(peer, seconds):
    rate = total / seconds / 1e9
    print(json.dumps({"peer": peer, "bytes": total, "totalSeconds": seconds, "totalGBps": rate}), flush=True)


if "safetensors" in which:
    import safetensors
    from safetensors.torch import load_file

    started = time.perf_counter()
    tensors = {}
    for file in files:
        tensors.update(load_file(file, device="cuda:0"))
    torch.cuda.synchronize()
    report(f"safetensors {safetensors.__version__}", time.perf_counter() - started)
    del tensors
    torch.cuda.empty_cache()

if "transformers" in which:
    import transformers
    from transformers import AutoModelForCausalLM

    started = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map="cuda:0")
    torch.cuda.synchronize()
    report(f"transformers {transformers.__version__}", time.perf_counter() - started)
