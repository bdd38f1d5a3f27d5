"""Continuous batching of transformers, measured as h100/serve.json has it.

usage: python3 transformers-batching.py <folder with config.json> [requests] [prompt] [output]
Weights are random. Prints one JSON line. Needs torch and transformers 5.17.
"""
import json
import sys
import time

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

folder = sys.argv[1]
requests, prompt, output = (int(value) for value in (sys.argv[2:] + ["128", "1024", "128"])[:3])

torch.set_grad_enabled(False)
torch.manual_seed(0)
config = AutoConfig.from_pretrained(folder)
with torch.device("cuda"):
    model = AutoModelForCausalLM.from_config(
        config, dtype=torch.bfloat16, attn_implementation="sdpa"
    ).eval()

generator = torch.Generator().manual_seed(1)
inputs = [
    torch.randint(0, config.vocab_size, (prompt,), generator=generator).tolist()
    for _ in range(requests)
]
settings = GenerationConfig(
    max_new_tokens=output, min_new_tokens=output, do_sample=False, eos_token_id=-1, pad_token_id=0
)
torch.cuda.synchronize()
started = time.perf_counter()
answers = model.generate_batch(inputs=inputs, generation_config=settings, progress_bar=False)
torch.cuda.synchronize()
seconds = time.perf_counter() - started
tokens = sum(len(answer.generated_tokens) for answer in answers.values())
print(
    json.dumps(
        {
            "peer": f"transformers {transformers.__version__}",
            "torch": torch.__version__,
            "seconds": seconds,
            "generatedTokens": tokens,
            "outputTokensPerSecond": tokens / seconds,
        }
    )
)
