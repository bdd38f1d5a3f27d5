"""Writes a Qwen3 checkpoint of random weights, in shards, with one process for each.

usage: python3 dummy-shards.py <folder with a Qwen3 config.json> <out folder> <layers> [GB a shard]
Weights are bf16 of 2^-7 to 2^-6, either sign. Needs numpy.
"""
import json
import multiprocessing
import os
import struct
import sys

import numpy

source, out, layers = sys.argv[1], sys.argv[2], int(sys.argv[3])
shard_bytes = float((sys.argv[4:] or ["4"])[0]) * 1e9
config = json.load(open(os.path.join(source, "config.json")))
config["num_hidden_layers"] = layers
hidden, width, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head


def shapes():
    yield "model.embed_tokens.weight", [config["vocab_size"], hidden]
    for layer in range(layers):
        at = f"model.layers.{layer}."
        yield at + "input_layernorm.weight", [hidden]
        yield at + "mlp.down_proj.weight", [hidden, width]
        yield at + "mlp.gate_proj.weight", [width, hidden]
        yield at + "mlp.up_proj.weight", [width, hidden]
        yield at + "post_attention_layernorm.weight", [hidden]
        yield at + "self_attn.k_norm.weight", [head]
        yield at + "self_attn.k_proj.weight", [keys, hidden]
        yield at + "self_attn.o_proj.weight", [hidden, queries]
        yield at + "self_attn.q_norm.weight", [head]
        yield at + "self_attn.q_proj.weight", [queries, hidden]
        yield at + "self_attn.v_proj.weight", [keys, hidden]
    yield "model.norm.weight", [hidden]
    yield "lm_head.weight", [config["vocab_size"], hidden]


def write(job):
    name, tensors, seed = job
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for tensor, shape in tensors:
        size = 2 * int(numpy.prod(shape))
        header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = numpy.random.Generator(numpy.random.SFC64(seed))
    with open(os.path.join(out, name), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for start in range(0, end, 1 << 25):
            count = min(1 << 25, end - start) // 2
            words = random.integers(0, 1 << 64, (count + 3) // 4, numpy.uint64)
            bits = words.view(numpy.uint16)[:count]
            file.write(((bits & 0x807F) | 0x3C00).tobytes())
    return name, end


def main():
    os.makedirs(out, exist_ok=True)
    shards, size = [[]], 0
    for tensor, shape in shapes():
        if size > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append((tensor, shape))
        size += 2 * int(numpy.prod(shape))
    count = len(shards)
    jobs = [(f"model-{i + 1:05d}-of-{count:05d}.safetensors", s, i) for i, s in enumerate(shards)]
    with multiprocessing.Pool(min(count, os.cpu_count())) as pool:
        total = sum(size for _, size in pool.map(write, jobs, 1))
    index = {tensor: name for name, shard, _ in jobs for tensor, _ in shard}
    with open(os.path.join(out, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {"total_size": total}, "weight_map": index}, file)
    with open(os.path.join(out, "config.json"), "w") as file:
        json.dump(config, file)
    print(f"{total / 1e9:.2f} GB in {count} shards")


if __name__ == "__main__":
    main()
